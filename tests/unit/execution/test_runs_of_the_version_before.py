"""Run directories that the version before has left: they list, reconcile and resume.

They are recorded (``tests/data/earlier``), because this version cannot write them any more.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from in_process import InProcess, run_pipeline
from prefect.settings import PREFECT_API_URL, temporary_settings

from kilroy_engine.cli.listing import read_runs
from kilroy_engine.events import LoopIteration, LoopTerminated
from kilroy_engine.execution.preparing.preparation import RunParameters
from kilroy_engine.orchestration.ending.reconcile import Action, Patience, reconcile
from kilroy_engine.rundir.files.checkpoint import load_checkpoint
from kilroy_engine.rundir.files.layout import RunDirectory
from kilroy_engine.rundir.files.machine import boot_id, host_name
from kilroy_engine.rundir.files.records import FinalOutcome
from kilroy_engine.rundir.stream.progress import read_events
from kilroy_engine.traversal.failure import signature
from kilroy_engine.traversal.outcome import FinalStatus
from kilroy_engine.traversal.state import LoopRound, Turn

RECORDED = Path(__file__).parents[2] / "data" / "earlier"
Laid = Callable[[str], RunDirectory]


@pytest.fixture
def laid(tmp_path: Path) -> Laid:
    """Lays out a recorded run below ``runs``, as if its process had died on this machine."""

    def lay(name: str) -> RunDirectory:
        run = RunDirectory(tmp_path / "runs" / f"earlier-{name}")
        shutil.copytree(RECORDED / name, run.path)
        for file in run.path.rglob("*"):
            if file.is_file():
                file.write_text(file.read_text().replace("@RUN@", str(run.path)))
        lock = json.loads(run.lock.read_text())
        run.lock.write_text(json.dumps({**lock, "host": host_name(), "boot_id": boot_id()}))
        return run

    return lay


def resumed(run: RunDirectory) -> tuple[FinalOutcome, list[str]]:
    """The end of the resumed run, and the visits that it took."""
    orchestrator = InProcess()
    return run_pipeline(RunParameters("").resuming(run), orchestrator), orchestrator.performed


def test_what_the_engine_knew_of_outcomes_is_read_into_their_fields(laid: Laid) -> None:
    """Retries, digest, session and loop file were keys of ``meta``; the iteration that was over was one of the last stage's."""
    state = load_checkpoint(laid("loop")).state

    flaky, polish, review = (state.outcomes[node_id] for node_id in ("flaky", "polish", "review"))
    assert (flaky.retries, review.session, polish.loop_file_seen) == (1, "simulated:2:writing", False)
    assert state.loop_round == LoopRound(1, Turn.AGAIN)
    # The digest is part of the signature, which the version before has counted.
    assert state.failure_signatures == {signature("flaky", flaky): 1}
    assert flaky.output_digest in signature("flaky", flaky)
    assert state.routing_outcome is not None
    assert {outcome.meta == {} for outcome in (*state.outcomes.values(), state.routing_outcome)} == {True}


def test_a_run_in_a_loop_goes_on_counting(laid: Laid) -> None:
    """One of three iterations was over: two more follow, and nothing that was finished runs again."""
    run = laid("loop")

    final, performed = resumed(run)

    assert final.status is FinalStatus.SUCCESS
    assert performed == ["polish (visit 2)", "polish (visit 3)", "done"]
    assert (run.worktree / "rounds").read_text() == "x\n" * 3
    rounds = [event for event in read_events(run.progress) if event["event"] in (LoopIteration.event, LoopTerminated.event)]
    # How the walk came to a visit is told again with the visit that was interrupted.
    assert [event.get("iteration", event.get("iterations")) for event in rounds] == [1, 1, 2, 3]


def test_a_run_in_branches_goes_on_with_what_they_came_to(laid: Laid) -> None:
    """A branch that was over is read from its record, results in the context by the fan-in: only what is left is done."""
    run = laid("branches")

    final, performed = resumed(run)

    assert final.status is FinalStatus.SUCCESS
    assert performed == ["inner_join", "outer", "outer_join", "done"]
    results = json.loads((run.stage("outer") / "parallel_results.json").read_bytes())
    assert [(result["branch_key"], result["outcome"]["status"]) for result in results] == [
        ("alone", "success"),
        ("inner", "success"),
    ]
    inner = RunDirectory(Path(results[1]["logs_root"]))
    chosen = load_checkpoint(inner).state.context
    assert chosen["parallel.fan_in.best_id"] == "right"
    assert (inner.worktree / "right.txt").exists()


@pytest.mark.parametrize("name", ["loop", "branches"])
def test_they_list_and_reconcile(laid: Laid, name: str) -> None:
    """Nobody knows of an end before; the reconciler writes one, and the run is listed with it."""
    run = laid(name)
    root = run.path.parent
    assert [(found.run_id, found.status) for found in read_runs(root)[0]] == [(f"earlier-{name}", "unknown")]

    with temporary_settings(updates={PREFECT_API_URL: "http://127.0.0.1:9/api"}):
        findings = reconcile(root, patience=Patience(grace_s=0))

    assert [(finding.run_id, finding.action) for finding in findings] == [(f"earlier-{name}", Action.END)]
    found, damaged = read_runs(root)
    assert ([(summary.run_id, summary.status) for summary in found], damaged) == ([(f"earlier-{name}", "fail")], [])
