"""The end of a run: what readers may rely on, whoever writes it and whatever happens meanwhile."""

from __future__ import annotations

import json
import multiprocessing
from pathlib import Path

import finalizer_race
import pytest
from rundir_runs import (
    PushingWorkspace,
    assert_ended,
    begin,
    conclude,
    events_of,
    finalize_from_disk,
    opening,
    run_elsewhere,
    terminal_lines,
)
from starts import open_start

from kilroy_engine.errors import RunAlreadyFinished, RunAlreadyOwned, RunDirectoryError, RunEnded, RunSuperseded, StopKind
from kilroy_engine.events import RunCompleted, StageHeartbeat
from kilroy_engine.events.times import now
from kilroy_engine.rundir.ending.cancel import request_cancel
from kilroy_engine.rundir.ending.finalize import end_of, end_run, finalize_run
from kilroy_engine.rundir.ending.which_end_wins import Observed
from kilroy_engine.rundir.files.layout import RunDirectory
from kilroy_engine.rundir.files.records import Manifest
from kilroy_engine.rundir.ownership.ownership import Owner
from kilroy_engine.rundir.stream.progress import ProgressLog
from kilroy_engine.traversal.outcome import FinalStatus

HEARTBEAT = StageHeartbeat(node_id="slow", elapsed_s=60, since_last_output_s=60)
PLACES_IN_TWO_DIRECTORIES = ("final.json@after:1", "final.json@rename:2", "run_completed@after:1", "run_completed@torn:2")
PLACES_OF_THE_END = (
    "final.json@before",
    "final.json@rename",
    "final.json@after",
    "outputs.json@before",
    "outputs.json@rename",
    "outputs.json@after",
    "run.tgz@before",
    "run.tgz@rename",
    "run.tgz@after",
    "git_push_start@before",
    "git_push_start@torn",
    "git_push_ok@torn",
    "push@after",
    "tidy@after",
    "run_completed@before",
    "run_completed@torn",
    "run_completed@after",
)


def snapshot(path: Path) -> dict[str, tuple[bytes, int]]:
    """Content and time of every file, to see that nothing was touched."""
    return {str(f.relative_to(path)): (f.read_bytes(), f.stat().st_mtime_ns) for f in path.rglob("*") if f.is_file()}


def test_the_end_has_all_its_parts_in_order(tmp_path: Path) -> None:
    """final.json, outputs, archive and push are done when the terminal line is appended (order of the end)."""
    start = begin(tmp_path)
    conclude(start)
    finalize_from_disk(tmp_path)
    assert_ended(start.run, "success")
    assert [e["event"] for e in events_of(start.run)] == ["run_started", "git_push_start", "git_push_ok", "run_completed"]
    assert json.loads(start.run.outputs_index.read_bytes())[0]["found"] is True
    assert (start.run.outputs / "report.txt").read_text() == "42\n"
    assert start.run.archive.exists()


def test_final_json_has_the_keys_of_the_contract_in_their_order(tmp_path: Path) -> None:
    """Kilroy's keys in Kilroy's order (runtime/final.go), then ours; failure_reason only when there is one."""
    start = begin(tmp_path)
    conclude(start, FinalStatus.FAIL, "exit status 3")
    finalize_from_disk(tmp_path)
    kilroy = ["timestamp", "status", "run_id", "final_git_commit_sha", "failure_reason", "cxdb_context_id", "cxdb_head_turn_id"]
    final = json.loads(start.run.final.read_bytes())
    assert list(final) == [*kilroy, "flow_run_id", "start"]
    assert final["final_git_commit_sha"] == "c0ffee"
    assert (final["cxdb_context_id"], final["cxdb_head_turn_id"]) == ("", "")
    assert not start.run.final.read_bytes().endswith(b"\n")


@pytest.mark.parametrize(
    ("place", "restarted"),
    [*((place, False) for place in PLACES_OF_THE_END), *((place, True) for place in PLACES_IN_TWO_DIRECTORIES)],
)
def test_a_finalizer_killed_anywhere_is_finished_by_the_next(tmp_path: Path, place: str, *, restarted: bool) -> None:
    """I1, I3, I4, I5, I8: no kill leaves a line without final.json, and a second call adds only what is missing."""
    start = begin(tmp_path, restarted=restarted)
    conclude(start)
    directories = start.run.ending_directories()
    assert run_elsewhere("finalize_by_name", str(tmp_path), failpoint=place) == -9
    for directory in directories:
        if terminal_lines(directory):
            assert json.loads(directory.final.read_bytes())["status"] == "success"
    archived = start.run.archive.stat().st_mtime_ns if start.run.archive.exists() else None

    finalize_from_disk(tmp_path)
    for directory in directories:
        assert_ended(directory, "success")
    if archived is not None:
        assert start.run.archive.stat().st_mtime_ns == archived
    before = snapshot(tmp_path)
    finalize_from_disk(tmp_path)
    assert snapshot(tmp_path) == before


def test_a_finalizer_killed_twice_at_the_last_write_still_leaves_one_line(tmp_path: Path) -> None:
    """I3, I6: torn terminal lines are closed and never edited; exactly one whole line remains."""
    start = begin(tmp_path)
    conclude(start)
    for _ in range(2):
        assert run_elsewhere("finalize_by_name", str(tmp_path), failpoint="run_completed@torn") == -9
    finalize_from_disk(tmp_path)
    assert_ended(start.run, "success")
    torn = [line for line in start.run.progress.read_bytes().split(b"\n")[:-1] if not line.endswith(b"}")]
    assert len(torn) == 2


@pytest.mark.parametrize("count", [20, pytest.param(200, marks=pytest.mark.slow)])
def test_six_processes_at_once_write_one_end(tmp_path: Path, count: int) -> None:
    """I1, I3, I4, I8: six finalizers with different ideas of the end agree on the first one written, round after round."""
    rounds = [tmp_path / f"run-{number:03d}" for number in range(count)]
    for number, path in enumerate(rounds):
        begin(path, restarted=number % 4 == 0).close()
    found = finalizer_race.race(rounds, processes=6, context=multiprocessing.get_context("spawn"))
    for path in rounds:
        run = RunDirectory(path)
        status = json.loads(run.final.read_bytes())["status"]
        assert {outcome for racer, outcome in found[path.name]} == {status}
        assert len(found[path.name]) == 6
        for directory in run.ending_directories():
            assert_ended(directory, status)


def test_terminal_line_is_last_even_when_a_heartbeat_is_late(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """I2: appends after the end are refused and logged, from the run's own log and from a fresh one."""
    start = begin(tmp_path)
    start.progress.append(HEARTBEAT)
    end_run(start.run, start.owner, Observed(FinalStatus.FAIL, "boom"))
    for log in (start.progress, ProgressLog(start.run, "r1")):
        with pytest.raises(RunEnded):
            log.append(HEARTBEAT)
    assert_ended(start.run, "fail", reason="boom")
    assert "stage_heartbeat came after the end" in caplog.text


def test_a_thread_left_over_from_an_earlier_start_cannot_write_into_the_next(tmp_path: Path) -> None:
    """I2: the earlier start's log stays ended when a new start goes on."""
    first = begin(tmp_path)
    conclude(first, FinalStatus.FAIL, "exit status 1")
    finalize_from_disk(tmp_path)
    second = begin(tmp_path, "flow-2")
    with pytest.raises(RunEnded):
        first.progress.append(HEARTBEAT)
    second.progress.append(HEARTBEAT)
    assert [e["event"] for e in events_of(second.run)][-2:] == ["run_resumed", "stage_heartbeat"]


def test_a_torn_last_line_is_closed_and_never_edited(tmp_path: Path) -> None:
    """I6: the next writer adds a newline; the torn bytes stay; readers skip them."""
    start = begin(tmp_path)
    torn = b'{"event":"stage_attempt_end","id":"00'
    with start.run.progress.open("ab") as stream:
        stream.write(torn)
    start.progress.append(HEARTBEAT)
    lines = start.run.progress.read_bytes().split(b"\n")
    assert lines[1] == torn
    assert [e["event"] for e in events_of(start.run)] == ["run_started", "stage_heartbeat"]


def test_a_terminal_line_that_lacks_only_its_newline_is_the_end(tmp_path: Path) -> None:
    """I3, I6: closing a torn line may complete it; then there is nothing to add."""
    start = begin(tmp_path)
    conclude(start)
    finalize_from_disk(tmp_path)
    whole = start.run.progress.read_bytes()
    start.run.progress.write_bytes(whole[:-1])
    finalize_from_disk(tmp_path)
    assert start.run.progress.read_bytes() == whole
    start.run.progress.write_bytes(whole[:-1])
    with pytest.raises(RunEnded):
        ProgressLog(start.run, "r1").append(HEARTBEAT)
    assert start.run.progress.read_bytes() == whole


def test_a_new_start_tells_first_and_then_moves_the_old_end_aside(tmp_path: Path) -> None:
    """I7: run_resumed follows the terminal line; final.json becomes final.start-1.json; each start has its own line."""
    first = begin(tmp_path, restarted=True)
    conclude(first, FinalStatus.FAIL, "exit status 1")
    finalize_from_disk(tmp_path)
    second = begin(tmp_path, "flow-2")
    assert second.owner == Owner("flow-2", 2)
    for directory in second.run.ending_directories():
        resumed = events_of(directory)[-1]
        assert (resumed["event"], resumed["start"], resumed["previous_status"]) == ("run_resumed", 2, "fail")
        assert not directory.final.exists()
        assert json.loads(directory.final_of_start(1).read_bytes())["failure_reason"] == "exit status 1"
    conclude(second)
    finalize_from_disk(tmp_path, "flow-2")
    for directory in second.run.ending_directories():
        assert_ended(directory, "success", starts=2)


@pytest.mark.parametrize(
    ("place", "restarted"),
    [
        ("run.lock.json@after", False),
        ("run_resumed@before", False),
        ("run_resumed@torn", False),
        ("run_resumed@after", False),
        ("final.json@aside", False),
        ("run_resumed@before:2", True),
        ("final.json@aside:1", True),
    ],
)
def test_a_start_killed_while_it_opens_is_ended_like_any_other(tmp_path: Path, place: str, *, restarted: bool) -> None:
    """I7: a finalizer that finds an older end moves it aside itself, after the line that announces the new start."""
    first = begin(tmp_path, restarted=restarted)
    conclude(first, FinalStatus.FAIL, "exit status 1")
    finalize_from_disk(tmp_path)
    assert run_elsewhere("resume_by_name", str(tmp_path), "flow-2", failpoint=place) == -9
    finalize_from_disk(tmp_path, "flow-2")
    for directory in first.run.ending_directories():
        assert_ended(directory, "fail", starts=2, reason="crashed: the flow process ended without a conclusion")
        assert json.loads(directory.final_of_start(1).read_bytes())["failure_reason"] == "exit status 1"
        names = [event["event"] for event in events_of(directory)]
        assert names.count("run_resumed") == 1
        assert names.index("run_failed") < names.index("run_resumed") < len(names) - 1


def test_a_start_that_nobody_ended_is_ended_by_the_next(tmp_path: Path) -> None:
    """I3: exactly one terminal line per start, also for one whose process died without a hook."""
    begin(tmp_path).close()
    second = begin(tmp_path, "flow-2")
    assert [e["event"] for e in events_of(second.run)] == ["run_started", "run_failed", "run_resumed"]
    assert second.previous is not None
    assert second.previous.failure_reason == "crashed: the flow process ended without a conclusion"
    conclude(second)
    finalize_from_disk(tmp_path, "flow-2")
    assert_ended(second.run, "success", starts=2)


def test_a_finalizer_of_a_superseded_start_changes_nothing(tmp_path: Path) -> None:
    """A late hook of an earlier start finds that the directory belongs to another, and leaves every byte as it is."""
    first = begin(tmp_path)
    conclude(first, FinalStatus.FAIL, "exit status 1")
    late = end_of(first.run, first.owner)
    second = begin(tmp_path, "flow-2")
    before = snapshot(tmp_path)
    with pytest.raises(RunSuperseded, match="belongs to start 2 of flow run flow-2"):
        finalize_run(first.run, late, owner=first.owner, closing=PushingWorkspace())
    after = snapshot(tmp_path)
    assert after == before
    second.close()


@pytest.mark.parametrize("status", [FinalStatus.SUCCESS, FinalStatus.FAIL])
def test_a_refused_start_leaves_the_directory_untouched(tmp_path: Path, status: FinalStatus) -> None:
    """A run that succeeded, or that a live process owns, is not started again and keeps every byte."""
    first = begin(tmp_path)
    if status is FinalStatus.SUCCESS:
        conclude(first)
        finalize_from_disk(tmp_path)
    before = snapshot(tmp_path)
    refusal = RunAlreadyFinished if status is FinalStatus.SUCCESS else RunAlreadyOwned
    with pytest.raises(refusal):
        open_start(first.run, opening("flow-2"), run_id="r1")
    assert snapshot(tmp_path) == before


def test_a_cancel_request_decides_the_end_and_says_by_whom(tmp_path: Path) -> None:
    """Cancel wins over the staged conclusion; the reason is the same in final.json and in the line; the first asker stands."""
    start = begin(tmp_path)
    request_cancel(start.run, StopKind.PERSON, "by kilroy stop")
    request_cancel(start.run, StopKind.SIGNAL, "by signal SIGINT")
    conclude(start)
    finalize_from_disk(tmp_path)
    assert_ended(start.run, "canceled", reason="canceled: by kilroy stop")
    assert [e["event"] for e in events_of(start.run)].count("cancel_requested") == 1
    with pytest.raises(RunEnded):
        request_cancel(start.run, StopKind.PERSON, "too late")


def test_a_cancel_request_of_an_earlier_start_is_forgotten(tmp_path: Path) -> None:
    """A resumed run is not canceled by the request that ended the start before."""
    first = begin(tmp_path)
    request_cancel(first.run, StopKind.PERSON, "by kilroy stop")
    first.close()
    finalize_from_disk(tmp_path)
    second = begin(tmp_path, "flow-2")
    conclude(second)
    finalize_from_disk(tmp_path, "flow-2")
    assert_ended(second.run, "success", starts=2)


def test_nothing_in_the_closing_keeps_the_terminal_line_away(tmp_path: Path) -> None:
    """A push that raises changes nothing but a warning."""

    class Broken(PushingWorkspace):
        def push(self, final: object, *, limit_s: float) -> list[RunCompleted]:
            raise ZeroDivisionError("remote is gone")

    start = begin(tmp_path)
    conclude(start)
    end_run(start.run, start.owner, closing=Broken())
    assert_ended(start.run, "success")
    assert [e["message"] for e in events_of(start.run) if e["event"] == "warning"] == ["push: remote is gone"]


def test_a_final_json_that_was_lost_is_written_again_as_the_line_says(tmp_path: Path) -> None:
    """I4: when only the line is left, final.json follows it."""
    start = begin(tmp_path)
    conclude(start, FinalStatus.FAIL, "exit status 3")
    finalize_from_disk(tmp_path)
    start.run.final.unlink()
    start.run.conclusion.unlink()
    finalize_from_disk(tmp_path)
    assert_ended(start.run, "fail", reason="exit status 3")


def test_a_start_whose_earlier_end_was_lost_still_has_its_own(tmp_path: Path) -> None:
    """A run that was killed between lock and line, and whose old final.json somebody removed, is ended all the same."""
    first = begin(tmp_path)
    conclude(first, FinalStatus.FAIL, "exit status 1")
    finalize_from_disk(tmp_path)
    assert run_elsewhere("resume_by_name", str(tmp_path), "flow-2", failpoint="run_resumed@before") == -9
    first.run.final.unlink()
    finalize_from_disk(tmp_path, "flow-2")
    assert_ended(first.run, "fail", starts=2)


@pytest.mark.parametrize("place", ["run.lock.json@after", "run_started@before", "run_started@torn"])
def test_a_start_that_told_nothing_is_not_counted(tmp_path: Path, place: str) -> None:
    """Killed before its first line: the next one is the first, and has the only terminal line."""
    assert run_elsewhere("resume_by_name", str(tmp_path), "flow-1", failpoint=place) == -9
    start = begin(tmp_path, "flow-2")
    conclude(start)
    finalize_from_disk(tmp_path, "flow-2")
    assert_ended(start.run, "success", starts=1)


def test_a_start_that_died_before_it_was_on_record_is_counted_by_its_end(tmp_path: Path) -> None:
    """A hook may end a run whose process was killed before the lock's record: the next start is the second all the same."""
    run = RunDirectory(tmp_path)
    Manifest(run_id="r1", started_at=now()).write(run)
    end_run(run, Owner("flow-1", 1))
    second = begin(tmp_path, "flow-2")
    assert second.owner.start == 2
    conclude(second)
    finalize_from_disk(tmp_path, "flow-2")
    assert_ended(run, "success", starts=2)


def test_resuming_a_run_that_had_succeeded_unnoticed_completes_its_end(tmp_path: Path) -> None:
    """A success whose process died before the hook is published in full before the resume is refused."""
    first = begin(tmp_path)
    conclude(first)
    with pytest.raises(RunAlreadyFinished):
        open_start(first.run, opening("flow-2"), run_id="r1", closing=PushingWorkspace())
    assert_ended(first.run, "success")
    assert first.run.archive.exists()
    assert "git_push_ok" in [event["event"] for event in events_of(first.run)]


def test_a_run_directory_that_is_gone_is_told(tmp_path: Path) -> None:
    """Ending a pruned run is an error of the run directory, not of the operating system."""
    with pytest.raises(RunDirectoryError, match=r"cannot open .*gone/commit\.lock"):
        finalize_from_disk(tmp_path / "gone")
