"""Child pipelines on disk: where they are found, what is seen of them, and how they end with the run around them."""

from __future__ import annotations

from pathlib import Path

import pytest
from starts import open_start

from kilroy_engine.events import CheckpointSaved, RunStarted, StageAttemptEnd, StageAttemptStart
from kilroy_engine.rundir.ending.finalize import end_run
from kilroy_engine.rundir.ending.starts import OpenStart
from kilroy_engine.rundir.ending.which_end_wins import Observed
from kilroy_engine.rundir.files.layout import RunDirectory
from kilroy_engine.rundir.files.records import FinalOutcome
from kilroy_engine.rundir.stages.children import (
    SupervisorRecord,
    child_directories,
    child_directory,
    child_facts,
    earlier_child,
    read_guidance,
    set_aside,
    write_guidance,
)
from kilroy_engine.rundir.stream.progress import is_ended
from kilroy_engine.traversal.outcome import FinalStatus
from kilroy_engine.traversal.supervision import ChildFacts, ChildStatus

PARENT = "11111111-1111-1111-1111-111111111111"
CHILD = "22222222-2222-2222-2222-222222222222"


def opened(path: Path, flow_run_id: str) -> OpenStart:
    """A start at work in the directory."""
    opening = RunStarted(flow_run_id=flow_run_id, graph_name="g", goal="")
    return open_start(RunDirectory(path), opening, run_id="R1")


def child_at(path: Path) -> OpenStart:
    """A child pipeline at work in the directory."""
    path.mkdir(parents=True)
    SupervisorRecord(run_id="R1", node_id="boss").write(RunDirectory(path))
    return opened(path, CHILD)


@pytest.mark.parametrize("place", ["boss", "boss/visit_2", "boss/attempt_1", "parallel/fan/pass1/01-a/boss", "restart-1/boss"])
def test_children_are_found_wherever_a_node_may_be(tmp_path: Path, place: str) -> None:
    """With their own children after them; a work folder is not searched, a run is no child of itself."""
    outer, inner = tmp_path / place / "child", tmp_path / place / "child" / "inner" / "child"
    for folder in (tmp_path, outer, inner, tmp_path / "worktree" / "boss" / "child"):
        folder.mkdir(parents=True, exist_ok=True)
        SupervisorRecord(run_id="R1", node_id="boss").write(RunDirectory(folder))
    assert [found.path for found in child_directories(RunDirectory(tmp_path))] == [outer, inner]


def test_the_facts_are_what_the_stream_says(tmp_path: Path) -> None:
    """Nothing before the first event, then the latest stage, how many are done, what failed last; at the end its reason."""
    directory = RunDirectory(tmp_path / "boss" / "child")
    assert child_facts(directory) == ChildFacts()
    start = child_at(directory.path)
    for event in (
        StageAttemptStart(node_id="a", attempt=1, max=2),
        StageAttemptEnd(node_id="a", attempt=1, max=2, status="fail", failure_reason="exit 1"),
        StageAttemptStart(node_id="a", attempt=2, max=2),
        StageAttemptEnd(node_id="a", attempt=2, max=2, status="success", failure_reason=""),
        CheckpointSaved(node_id="a", git_commit_sha=""),
        StageAttemptStart(node_id="b", attempt=1, max=1),
    ):
        start.progress.append(event)
    assert child_facts(directory) == ChildFacts(ChildStatus.RUNNING, "b", 1, 1, "exit 1")
    end_run(directory, start.owner, Observed(FinalStatus.FAIL, "no route"))
    start.close()
    assert child_facts(directory) == ChildFacts(ChildStatus.FAILED, "b", 1, 1, "no route")


@pytest.mark.parametrize(
    ("observed", "message", "expected"),
    [
        (FinalStatus.CANCELED, "canceled: in the Prefect UI or API", ("canceled", "canceled: in the Prefect UI or API")),
        (None, "crashed: gone", ("fail", "crashed: gone")),
    ],
)
def test_a_child_ends_with_the_run_around_it(
    tmp_path: Path, observed: FinalStatus | None, message: str, expected: tuple[str, str]
) -> None:
    """Whoever ends the run ends its children first and theirs before them, in the same way; each end is whole."""
    parent = opened(tmp_path, PARENT)
    children = [tmp_path / "boss" / "child", tmp_path / "boss" / "child" / "inner" / "child"]
    starts = [child_at(path) for path in children]
    for start in (parent, *starts):
        start.close()

    run = RunDirectory(tmp_path)
    end_run(run, parent.owner, Observed(observed, message))

    ends = [FinalOutcome.read(RunDirectory(path)) for path in (*reversed(children), tmp_path)]
    assert {(end.status, end.failure_reason) for end in ends} == {expected}
    assert [end.flow_run_id for end in ends] == [CHILD, CHILD, PARENT]
    assert all(is_ended(RunDirectory(path).progress) for path in (*children, tmp_path))
    written = [RunDirectory(path).final.stat().st_mtime_ns for path in (*reversed(children), tmp_path)]
    assert written == sorted(written)


def test_the_end_of_a_child_stands(tmp_path: Path) -> None:
    """A child that has ended before is left as it is."""
    parent, directory = opened(tmp_path, PARENT), RunDirectory(tmp_path / "boss" / "child")
    start = child_at(directory.path)
    end_run(directory, start.owner, Observed(FinalStatus.CANCELED, "canceled: by its manager"))
    start.close()
    before = directory.final.read_bytes(), directory.progress.read_bytes()

    run = RunDirectory(tmp_path)
    end_run(run, parent.owner, Observed(reason="crashed: gone", crashed=True))
    parent.close()

    assert (directory.final.read_bytes(), directory.progress.read_bytes()) == before


def test_the_latest_child_of_earlier_visits_is_found(tmp_path: Path) -> None:
    """By the number of the visit, not by its name; a visit without a child is passed over."""
    assert earlier_child(tmp_path) is None
    for visit in (2, 10):
        child = child_directory(tmp_path / f"visit_{visit}")
        child.path.mkdir(parents=True)
        SupervisorRecord(run_id="R1", node_id="boss").write(child)
    (tmp_path / "visit_11").mkdir()
    assert earlier_child(tmp_path) == child_directory(tmp_path / "visit_10")


def test_the_child_of_an_earlier_attempt_is_kept(tmp_path: Path) -> None:
    """Beside the files of that attempt; without one nothing happens."""
    set_aside(tmp_path, 2)
    assert not list(tmp_path.iterdir())
    child_directory(tmp_path).path.mkdir()
    set_aside(tmp_path, 3)
    assert (tmp_path / "attempt_2" / "child").is_dir()
    assert not child_directory(tmp_path).path.exists()


def test_guidance_is_replaced(tmp_path: Path) -> None:
    """The last word counts; a run without a manager has none."""
    run = RunDirectory(tmp_path)
    assert read_guidance(run) == ""
    write_guidance(run, "first")
    write_guidance(run, "second")
    assert read_guidance(run) == "second"
