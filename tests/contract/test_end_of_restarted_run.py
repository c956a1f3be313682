"""The end of a run that has restarted: in the run directory and in its latest restart, in this order and once."""

from __future__ import annotations

from pathlib import Path

import pytest
from rundir_runs import assert_ended, begin, conclude, events_of, finalize_from_disk, run_elsewhere, terminal_lines

from kilroy_engine.events import LoopRestart
from kilroy_engine.rundir.ending.starts import OpenStart
from kilroy_engine.rundir.files.layout import RunDirectory
from kilroy_engine.rundir.stages.restarts import make_restart
from kilroy_engine.rundir.stream.reader import read_run, tail_events
from kilroy_engine.traversal.outcome import FinalStatus
from kilroy_engine.traversal.state import RunState


def restart(start: OpenStart, number: int) -> RunDirectory:
    """Moves the run on as the engine does: it is told where the run is, then the directory is made."""
    left = start.run.ending_directories()[0]
    log = start.progress if left == start.run else start.progress.beside(left)
    new = start.run.restart(number)
    log.append(LoopRestart(restart_count=number, target_node="work", new_logs_root=str(new.path)))
    return make_restart(start.run, RunState("r1", restart_count=number, jump_to="work"), git_commit_sha="c0ffee")


def content(directory: RunDirectory) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in directory.path.iterdir() if file.is_file()}


@pytest.mark.parametrize("status", list(FinalStatus))
def test_both_final_json_are_there_before_the_first_terminal_line(tmp_path: Path, status: FinalStatus) -> None:
    """I1, I5, I8: killed just before the first line, the run has both files and no line; the next finalizer adds the lines."""
    start = begin(tmp_path)
    latest = restart(start, 1)
    conclude(start, status, "" if status is FinalStatus.SUCCESS else "why")
    line = "run_completed" if status is FinalStatus.SUCCESS else "run_failed"
    assert run_elsewhere("finalize_by_name", str(tmp_path), failpoint=f"{line}@before:1") == -9
    assert latest.final.read_bytes() == start.run.final.read_bytes()
    assert [terminal_lines(directory) for directory in start.run.ending_directories()] == [[], []]
    finalize_from_disk(tmp_path)
    for directory in (latest, start.run):
        assert_ended(directory, str(status))


def test_the_run_directory_says_last_that_all_is_done(tmp_path: Path) -> None:
    """A reader of the run directory that sees its terminal line finds the restart's too."""
    start = begin(tmp_path)
    latest = restart(start, 1)
    conclude(start)
    assert run_elsewhere("finalize_by_name", str(tmp_path), failpoint="run_completed@after:1") == -9
    assert_ended(latest, "success")
    assert terminal_lines(start.run) == []
    assert not read_run(tmp_path).complete


def test_a_restart_that_the_run_has_left_is_not_touched_by_the_end(tmp_path: Path) -> None:
    """Its last line stays loop_restart, as in Kilroy: it leads on to where the end is."""
    start = begin(tmp_path)
    first, second = restart(start, 1), restart(start, 2)
    before = content(first)
    conclude(start)
    finalize_from_disk(tmp_path)
    assert content(first) == before
    last = events_of(first)[-1]
    assert (last["event"], last["new_logs_root"]) == ("loop_restart", str(second.path))
    for directory in (second, start.run):
        assert_ended(directory, "success")
    told = [event["event"] for event in tail_events(tmp_path)]
    assert told == ["run_started", "loop_restart", "loop_restart", "git_push_start", "git_push_ok", "run_completed"]


def test_a_later_start_that_restarts_has_one_line_for_each_start(tmp_path: Path) -> None:
    """I3, I7: the first start ended in the run directory, the second one in a restart: that knows of the second only."""
    first = begin(tmp_path)
    conclude(first, FinalStatus.FAIL, "exit status 1")
    finalize_from_disk(tmp_path)
    second = begin(tmp_path, "flow-2")
    latest = restart(second, 1)
    conclude(second)
    finalize_from_disk(tmp_path, "flow-2")
    assert_ended(second.run, "success", starts=2)
    assert [line["start"] for line in terminal_lines(latest)] == [2]
    assert latest.final.read_bytes() == second.run.final.read_bytes()


def test_a_start_that_is_resumed_in_a_restart_tells_so_in_both_directories(tmp_path: Path) -> None:
    """I7, I8: run_resumed follows the terminal line of each, and each has the earlier end under another name."""
    first = begin(tmp_path)
    latest = restart(first, 1)
    conclude(first, FinalStatus.FAIL, "exit status 1")
    finalize_from_disk(tmp_path)
    second = begin(tmp_path, "flow-2")
    for directory in (latest, second.run):
        assert [event["event"] for event in events_of(directory)][-2:] == ["run_failed", "run_resumed"]
        assert not directory.final.exists()
        assert directory.final_of_start(1).exists()
    conclude(second)
    finalize_from_disk(tmp_path, "flow-2")
    for directory in (latest, second.run):
        assert_ended(directory, "success", starts=2)
