"""A Kilroy Agent block on a real server: its key reaches the agent, and nothing else."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import tarfile
from collections.abc import Mapping
from pathlib import Path

from real_prefect import Prefect, eventually

KILROY = [sys.executable, "-m", "kilroy_engine.cli.main"]
KEY, TOKEN = "canary-key-8a1b", "canary-token-8a1b"
AGENT = """#!/bin/sh
printf '%s' "$ANTHROPIC_API_KEY,$TOKEN" | sha256sum > "$SEEN"
echo "I have $ANTHROPIC_API_KEY and $TOKEN"
sed "s/TOKEN/$TOKEN/; s/KEY/$ANTHROPIC_API_KEY/" > "$KILROY_STAGE_STATUS_PATH" <<'X'
{"status": "success", "notes": "TOKEN", "context_updates": {"k": "KEY"}}
X
"""
PIPELINE = """digraph secret { s [shape=Mdiamond] e [shape=Msquare] a [prompt=x, llm_provider=anthropic]
  s -> a a -> e [condition="outcome=success"] }"""
SAVE = """
from kilroy_engine.orchestration.agent_block import KilroyAgent
KilroyAgent(anthropic_api_key=KEY, openai_api_key="canary-other", extra_environment={"TOKEN": TOKEN, "SEEN": SEEN}).save("team")
"""


def test_a_blocks_key_reaches_the_agent_and_is_nowhere_else(prefect: Prefect, tmp_path: Path) -> None:
    """An agent that prints its key and leaves it in its status file: neither the run directory, nor the archive, nor what the
    command prints, nor anything that Prefect's API tells of the run has it, the saved block's own answer included."""
    environment = prefect.environment
    command(["prefect", "block", "register", "-m", "kilroy_engine.orchestration.agent_block"], tmp_path, environment)
    values = f"KEY, TOKEN, SEEN = {KEY!r}, {TOKEN!r}, {str(tmp_path / 'seen')!r}"
    command([sys.executable, "-c", values + SAVE], tmp_path, environment)
    agent, run = tmp_path / "agent", tmp_path / "run"
    agent.write_text(AGENT)
    agent.chmod(0o755)
    (tmp_path / "secret.dot").write_text(PIPELINE)
    options = [
        "--no-git",
        "--logs-root",
        str(run),
        "--agent",
        "command",
        "--agent-command",
        str(agent),
        "--agent-block",
        "team",
    ]
    printed = command([*KILROY, "run", "secret.dot", *options], tmp_path, environment)

    assert (tmp_path / "seen").read_text().split()[0] == hashlib.sha256(f"{KEY},{TOKEN}".encode()).hexdigest()
    assert "canary" not in printed
    assert [path for path in run.rglob("*") if path.is_file() and b"canary" in path.read_bytes()] == []
    with tarfile.open(run / "run.tgz") as archive:
        files = [(member.name, archive.extractfile(member)) for member in archive]
        assert [name for name, file in files if file and b"canary" in file.read()] == []
    assert json.loads((run / "run_config.json").read_text())["agents"]["block"] == "team"
    told = answers_about(prefect, json.loads((run / "manifest.json").read_text())["flow_run_id"])
    assert "I have ********" in json.dumps(told["logs"])
    assert {name: "canary" in json.dumps(answer) for name, answer in told.items()} == dict.fromkeys(told, False)


def command(argv: list[str], folder: Path, environment: Mapping[str, str]) -> str:
    """What the command printed on both streams, when it has succeeded."""
    done = subprocess.run(argv, cwd=folder, env=environment, capture_output=True, text=True, timeout=180, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def answers_about(prefect: Prefect, flow_run_id: str) -> dict[str, object]:
    """Everything that the API tells of the flow run, once its log lines have arrived, and of the block."""
    of_run = {"flow_runs": {"id": {"any_": [flow_run_id]}}}

    def logs() -> object:
        found = prefect.post("/logs/filter", logs={"flow_run_id": {"any_": [flow_run_id]}})
        return found if "I have" in json.dumps(found) else None

    return {
        "logs": eventually(logs, within_s=30, what="the agent's line in Prefect's logs"),
        "flow run": prefect.flow_run(flow_run_id),
        "task runs": prefect.task_runs(flow_run_id, count=3),
        "artifacts": prefect.post("/artifacts/filter", **of_run),
        "states": prefect.get(f"/flow_run_states/?flow_run_id={flow_run_id}"),
        "events": prefect.post("/events/filter", limit=50),
        "block": prefect.get("/block_types/slug/kilroy-agent/block_documents/name/team"),
    }
