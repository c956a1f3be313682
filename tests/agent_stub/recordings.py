"""The recorded runs of the real agents in ``tests/data/agents``: ``<agent>/<case>.ndjson`` is what an agent printed,
``<agent>/<case>.meta.json`` how it was started and how it ended. ``scripts/record_agents.py`` writes them."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from agent_stub.cases import Played

FOLDER = Path(__file__).parents[1] / "data" / "agents"
_STDERR_CHARACTERS = 1500


@dataclass(frozen=True)
class Meta:
    """``requests`` is how often the agent asked the model, ``files`` what was then in its work folder."""

    agent: str
    version: str
    scenario: str
    argv: list[str]
    exit_code: int
    requests: int
    files: list[str]
    stderr: str


@dataclass(frozen=True)
class Recording:
    meta: Meta
    stdout: str

    @property
    def lines(self) -> list[dict[str, object]]:
        return [json.loads(line) for line in self.stdout.splitlines() if line.startswith("{")]


def load(agent: str, case: str) -> Recording:
    meta = json.loads((FOLDER / agent / f"{case}.meta.json").read_text(encoding="utf-8"))
    return Recording(Meta(**meta), (FOLDER / agent / f"{case}.ndjson").read_text(encoding="utf-8"))


def save(recording: Recording, case: str) -> None:
    folder = FOLDER / recording.meta.agent
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(asdict(recording.meta), indent=2, ensure_ascii=False)
    (folder / f"{case}.meta.json").write_text(f"{text}\n", encoding="utf-8")
    (folder / f"{case}.ndjson").write_text(recording.stdout, encoding="utf-8")


def recording(played: Played, agent: str, version: str, scenario: str, places: dict[str, str]) -> Recording:
    """``places`` are the folders and addresses of this machine, and what stands for them in the record."""

    def placeless(text: str) -> str:
        for place in sorted(places, key=len, reverse=True):
            text = text.replace(place, places[place])
        return text

    ran = played.ran
    files = sorted(str(path.relative_to(played.work)) for path in played.work.rglob("*") if path.is_file())
    argv = [placeless(word) for word in ran.argv]
    stderr = placeless(ran.stderr)[:_STDERR_CHARACTERS]
    meta = Meta(agent, version, scenario, argv, ran.exit_code, len(played.asked), files, stderr)
    return Recording(meta, placeless(ran.stdout))
