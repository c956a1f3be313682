"""Pipelines from the wild, run whole in simulation: KILROY_CORPUS names their folder."""

from __future__ import annotations

import json
import os
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
from conftest import Prefect, ended, events
from engine_process import Answer, Request, answers

from kilroy_engine.graph.dot.parse import parse_dot
from kilroy_engine.graph.inputs import declared_inputs

CORPUS = os.environ.get("KILROY_CORPUS", "")
MAY_REFUSE = {"condition_syntax", "tool_command_required"}
OWN_ROUTING = (
    "no outgoing edge matched",
    'run aborted: node "',
    "goal gate unsatisfied",
    "loop_restart limit exceeded",
    "stage failed with no outgoing fail edge: child pipeline failed: there is no file ",
)
"""What a run may fail with although every stage of an agent or a tool succeeded. One pipeline's child is a file that
its repository makes elsewhere."""
AT_ONCE = 2
"""Processes that share the pipelines: while one waits for the server, another works."""

pytestmark = [
    pytest.mark.skipif(not CORPUS, reason="KILROY_CORPUS is not set: no pipelines from the wild to run"),
    pytest.mark.timeout(1800),
]


@dataclass(frozen=True)
class Simulated:
    """A pipeline and how its run ended. ``run`` is its directory, ``final`` its ``final.json``; None where it was refused."""

    file: str
    answer: Answer
    run: Path | None
    final: dict[str, Any] | None

    @property
    def fate(self) -> str:
        """One word: the final status, or ``refused``."""
        return self.final["status"] if self.final is not None else "refused"


@pytest.fixture(scope="module")
def simulated(prefect: Prefect, tmp_path_factory: pytest.TempPathFactory) -> list[Simulated]:
    """Every pipeline that is meant to be valid, run once: agents and tools succeed, gates take their first choice."""
    folder = tmp_path_factory.mktemp("corpus")
    index = json.loads((Path(CORPUS) / "index.json").read_text(encoding="utf-8"))
    requests = [_request(entry["file"], folder / str(at)) for at, entry in enumerate(index) if not entry["negative"]]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        shares = [
            pool.submit(answers, requests[share::AT_ONCE], environment=prefect.environment, folder=folder, within_s=1700)
            for share in range(AT_ONCE)
        ]
        done = {answer.name: answer for answer in chain.from_iterable(share.result() for share in shares)}
    return [_simulated(request.name, done[request.name]) for request in requests]


def _request(file: str, logs_root: Path) -> Request:
    path = Path(CORPUS).resolve() / file
    graph = parse_dot(path.read_text(encoding="utf-8"), file)
    return Request(
        name=file,
        graph=str(path),
        inputs={known.name: f"some {known.name}" for known in declared_inputs(graph)},
        options={"simulate": True, "human": "auto-approve", "workspace": "plain", "logs_root": str(logs_root)},
    )


def _simulated(file: str, answer: Answer) -> Simulated:
    if answer.refusal:
        return Simulated(file, answer, None, None)
    run = Path(answer.logs_root)
    return Simulated(file, answer, run, json.loads((run / "final.json").read_text(encoding="utf-8")))


def test_every_run_ends_with_exactly_one_terminal_line(simulated: list[Simulated]) -> None:
    """The last line, the only one of its kind, and it says what ``final.json`` and the exit code say."""
    for pipeline in simulated:
        if pipeline.run is None:
            continue
        assert ended(pipeline.run) == pipeline.final
        terminal = [event for event in events(pipeline.run) if event["event"] in ("run_completed", "run_failed")]
        assert len(terminal) == 1, pipeline.file
        assert pipeline.answer.exit_code == (0 if pipeline.fate == "success" else 1)


def test_a_simulated_run_fails_only_by_its_own_routing(simulated: list[Simulated]) -> None:
    """No exception of a handler or of the engine: in simulation every stage succeeds, what is left is the way through."""
    for pipeline in simulated:
        if pipeline.run is None:
            continue
        assert not list(pipeline.run.rglob("panic.txt")), pipeline.file
        assert pipeline.fate == "success" or pipeline.final["failure_reason"].startswith(OWN_ROUTING), pipeline.file


def test_a_pipeline_is_refused_only_by_a_rule_that_it_breaks(simulated: list[Simulated]) -> None:
    """By name of the rule: an operator of another engine in a condition, a tool without a command."""
    refused = {pipeline.file: pipeline.answer.rules for pipeline in simulated if pipeline.fate == "refused"}
    assert {rule for rules in refused.values() for rule in rules} <= MAY_REFUSE
    assert all(refused.values())
    assert len(refused) <= 0.02 * len(simulated)


def test_the_statuses_are_counted(simulated: list[Simulated], capsys: pytest.CaptureFixture[str]) -> None:
    """Prints the table; most pipelines come to their exit. What only a real agent's or tool's answer leads out of does not."""
    fates = Counter(pipeline.fate for pipeline in simulated)
    visits = sum(_visits(pipeline.run) for pipeline in simulated if pipeline.run is not None)
    took_s = sum(pipeline.answer.took_s for pipeline in simulated)
    with capsys.disabled():
        told = ", ".join(f"{count} {fate}" for fate, count in fates.most_common())
        print(f"\n{len(simulated)} pipelines in simulation: {told}; {visits} visits, {took_s:.0f} s of runs")
        for pipeline in simulated:
            if pipeline.fate != "success":
                why = pipeline.final["failure_reason"] if pipeline.final else ", ".join(pipeline.answer.rules)
                print(f"  {pipeline.fate:8} {pipeline.file}: {why or pipeline.answer.refusal}")
    assert fates["success"] > 0.8 * len(simulated)


def _visits(run: Path) -> int:
    """Visits of the whole run, branches and restarts included."""
    streams = [path.parent for path in run.rglob("progress.ndjson")]
    return sum(event["event"] == "stage_attempt_start" for stream in streams for event in events(stream))
