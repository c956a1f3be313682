"""Pipelines from the wild, run whole in simulation: KILROY_CORPUS names their folder."""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from in_process import run_pipeline

from kilroy_engine.errors import InvalidPipeline
from kilroy_engine.execution.preparing.preparation import RunParameters
from kilroy_engine.graph.checks.validation import errors_of
from kilroy_engine.graph.dot.parse import parse_dot
from kilroy_engine.graph.inputs import declared_inputs
from kilroy_engine.rundir.files.layout import RunDirectory
from kilroy_engine.rundir.files.records import FinalOutcome
from kilroy_engine.rundir.stream.progress import read_events
from kilroy_engine.settings.options import Options

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

pytestmark = [
    pytest.mark.skipif(not CORPUS, reason="KILROY_CORPUS is not set: no pipelines from the wild to run"),
    pytest.mark.timeout(1800),
    pytest.mark.xdist_group("corpus"),  # the runs are for all tests of this file: one worker carries them out
]


@dataclass(frozen=True)
class Simulated:
    """A pipeline and how its run ended: in ``run``, as ``final``, after ``took_s`` seconds. Where it was refused, ``final`` is
    None and ``rules`` say why."""

    file: str
    run: Path
    final: FinalOutcome | None
    rules: tuple[str, ...]
    took_s: float

    @property
    def fate(self) -> str:
        """One word: the final status, or ``refused``."""
        return self.final.status if self.final is not None else "refused"

    def events(self) -> list[dict[str, Any]]:
        """The lines of its stream."""
        return list(read_events(RunDirectory(self.run).progress))


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> list[Simulated]:
    """Every pipeline that is meant to be valid, run once: agents and tools succeed, gates take their first choice."""
    folder = tmp_path_factory.mktemp("corpus")
    index = json.loads((Path(CORPUS) / "index.json").read_text(encoding="utf-8"))
    return [_simulate(entry["file"], folder / str(at)) for at, entry in enumerate(index) if not entry["negative"]]


def _simulate(file: str, run: Path) -> Simulated:
    path, began = Path(CORPUS).resolve() / file, time.monotonic()
    inputs = {known.name: f"some {known.name}" for known in declared_inputs(parse_dot(path.read_text(encoding="utf-8"), file))}
    options = Options(simulate=True, human="auto-approve", workspace="plain", logs_root=str(run))
    final, rules = None, ()
    try:
        final = run_pipeline(RunParameters(str(path), inputs, options=options), base=run.parent)
    except InvalidPipeline as refusal:
        rules = tuple(sorted({error.rule for error in errors_of(refusal.diagnostics)}))
    return Simulated(file, run, final, rules, time.monotonic() - began)


def test_every_run_ends_with_exactly_one_terminal_line(simulated: list[Simulated]) -> None:
    """The last line, the only one of its kind; it says what ``final.json`` says."""
    for pipeline in simulated:
        if pipeline.final is None:
            continue
        terminal = [event for event in pipeline.events() if event["event"] in ("run_completed", "run_failed")]
        told = [(event["status"], event.get("reason", "")) for event in terminal]
        assert told == [(pipeline.fate, pipeline.final.failure_reason)], pipeline.file
        assert pipeline.final == FinalOutcome.find(RunDirectory(pipeline.run))
        assert pipeline.events()[-1] == terminal[0]
        assert (pipeline.run / "run.tgz").exists()


def test_a_simulated_run_fails_only_by_its_own_routing(simulated: list[Simulated]) -> None:
    """No exception of a handler or of the engine: in simulation every stage succeeds, what is left is the way through."""
    for pipeline in simulated:
        if pipeline.final is None:
            continue
        assert not list(pipeline.run.rglob("panic.txt")), pipeline.file
        assert pipeline.fate == "success" or pipeline.final.failure_reason.startswith(OWN_ROUTING), pipeline.file


def test_a_pipeline_is_refused_only_by_a_rule_that_it_breaks(simulated: list[Simulated]) -> None:
    """By name of the rule: an operator of another engine in a condition, a tool without a command."""
    refused = {pipeline.file: pipeline.rules for pipeline in simulated if pipeline.final is None}
    assert {rule for rules in refused.values() for rule in rules} <= MAY_REFUSE
    assert all(refused.values())
    assert len(refused) <= 0.02 * len(simulated)


def test_the_statuses_are_counted(simulated: list[Simulated], capsys: pytest.CaptureFixture[str]) -> None:
    """Prints the table; most pipelines come to their exit. What only a real agent's or tool's answer leads out of does not."""
    fates = Counter(pipeline.fate for pipeline in simulated)
    visits = sum(_visits(pipeline.run) for pipeline in simulated)
    took_s = sum(pipeline.took_s for pipeline in simulated)
    with capsys.disabled():
        told = ", ".join(f"{count} {fate}" for fate, count in fates.most_common())
        print(f"\n{len(simulated)} pipelines in simulation: {told}; {visits} visits, {took_s:.0f} s of runs")
        for pipeline in simulated:
            if pipeline.fate != "success":
                why = pipeline.final.failure_reason if pipeline.final else ", ".join(pipeline.rules)
                print(f"  {pipeline.fate:8} {pipeline.file}: {why}")
    assert fates["success"] > 0.8 * len(simulated)


def _visits(run: Path) -> int:
    """Visits of the whole run, branches and restarts included."""
    return sum(
        event["event"] == "stage_attempt_start" for stream in run.rglob("progress.ndjson") for event in read_events(stream)
    )
