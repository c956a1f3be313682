"""Reading a run from outside, and its log for people."""

from __future__ import annotations

import json
import re
import threading
from pathlib import Path

import pytest
from starts import open_start

import kilroy_engine
from kilroy_engine.errors import RunDirectoryError
from kilroy_engine.events import LoopRestart, RunStarted, StageAttemptStart
from kilroy_engine.rundir.ending.finalize import end_run
from kilroy_engine.rundir.ending.starts import OpenStart
from kilroy_engine.rundir.files.layout import RunDirectory
from kilroy_engine.rundir.files.records import Conclusion
from kilroy_engine.rundir.files.runlog import RunLog
from kilroy_engine.rundir.stream.progress import ProgressLog
from kilroy_engine.rundir.stream.reader import read_run, tail_events
from kilroy_engine.traversal.outcome import FinalStatus


def begin(path: Path, flow_run_id: str = "flow-1") -> OpenStart:
    opening = RunStarted(flow_run_id=flow_run_id, graph_name="demo", goal="")
    return open_start(RunDirectory(path), opening, run_id="r1")


def end(start: OpenStart, status: FinalStatus, reason: str = "") -> None:
    Conclusion(status=status, reason=reason, start=start.owner.start).write(start.run)
    end_run(start.run, start.owner)
    start.close()


def names(path: Path, *, follow: bool = False) -> list[object]:
    return [event["event"] for event in tail_events(path, follow=follow, poll_s=0.01)]


def test_a_run_is_read_at_every_point_of_its_life(tmp_path: Path) -> None:
    """running while the owner lives, unknown when it is gone, then the end's status; complete with the line."""
    start = begin(tmp_path)
    start.progress.append(StageAttemptStart(node_id="build", attempt=2, max=3))
    running = read_run(tmp_path)
    assert (running.status, running.complete, running.owner_alive) == ("running", False, True)
    assert (running.run_id, running.node_id, running.attempt, running.max_attempts) == ("r1", "build", 2, 3)
    assert running.last_event == "stage_attempt_start"
    assert running.started_at is not None
    assert running.last_event_at is not None
    assert running.started_at <= running.last_event_at
    start.close()
    assert read_run(tmp_path).status == "unknown"

    second = begin(tmp_path, "flow-2")
    end(second, FinalStatus.FAIL, "exit status 3")
    ended = read_run(tmp_path)
    assert (ended.status, ended.complete, ended.failure_reason, ended.owner_alive) == ("fail", True, "exit status 3", False)
    assert ended.final is not None
    assert ended.final.start == 2


def test_a_resumed_run_is_running_although_it_ended_before(tmp_path: Path) -> None:
    """The earlier end says nothing about the present."""
    end(begin(tmp_path), FinalStatus.FAIL, "x")
    start = begin(tmp_path, "flow-2")
    summary = read_run(tmp_path)
    assert (summary.status, summary.final, summary.complete) == ("running", None, False)
    start.close()


def test_a_folder_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    """The message names it."""
    with pytest.raises(RunDirectoryError, match="missing is no run directory"):
        read_run(tmp_path / "missing")


def test_following_ends_with_the_terminal_line_and_goes_on_over_an_earlier_one(tmp_path: Path) -> None:
    """Events come as they are written; the end of an earlier start does not stop it, the last one does."""
    end(begin(tmp_path), FinalStatus.FAIL, "x")
    start = begin(tmp_path, "flow-2")
    found: list[object] = []
    follower = threading.Thread(target=lambda: found.extend(names(tmp_path, follow=True)))
    follower.start()
    start.progress.append(StageAttemptStart(node_id="a", attempt=1, max=1))
    end(start, FinalStatus.SUCCESS)
    follower.join(timeout=20)
    assert not follower.is_alive()
    assert found == ["run_started", "run_failed", "run_resumed", "stage_attempt_start", "run_completed"]


def test_following_a_start_leaves_out_what_was_before_it(tmp_path: Path) -> None:
    """A follower that waits for the second start is not ended by the end of the first, and shows nothing of it."""
    end(begin(tmp_path), FinalStatus.FAIL, "x")
    found: list[object] = []
    follower = threading.Thread(
        target=lambda: found.extend(e["event"] for e in tail_events(tmp_path, follow=True, poll_s=0.01, start=2))
    )
    follower.start()
    end(begin(tmp_path, "flow-2"), FinalStatus.SUCCESS)
    follower.join(timeout=20)
    assert not follower.is_alive()
    assert found == ["run_resumed", "run_completed"]


def test_without_follow_it_returns_what_is_there(tmp_path: Path) -> None:
    """A torn last line is left for later."""
    start = begin(tmp_path)
    with start.run.progress.open("ab") as stream:
        stream.write(b'{"event":"wa')
    assert names(tmp_path) == ["run_started"]
    assert list(tail_events(tmp_path, follow=True, poll_s=0.01, stop=lambda: True))[-1]["event"] == "run_started"
    start.close()


def test_events_of_a_restart_stand_in_their_place(tmp_path: Path) -> None:
    """A reader of the run directory does not go silent at a loop_restart, and the terminal line comes once."""
    start = begin(tmp_path)
    restart = start.run.restart(1)
    restart.path.mkdir()
    start.progress.append(LoopRestart(restart_count=1, target_node="a", new_logs_root=str(restart.path)))
    inner = ProgressLog(restart, "r1")
    inner.append(StageAttemptStart(node_id="a", attempt=1, max=1))
    assert read_run(tmp_path).node_id == "a"
    end(start, FinalStatus.SUCCESS)
    assert names(tmp_path) == names(tmp_path, follow=True)
    assert names(tmp_path) == ["run_started", "loop_restart", "stage_attempt_start", "run_completed"]


def test_the_package_offers_the_readers_by_name() -> None:
    """``kilroy_engine.read_run`` and friends are there without importing the rest; other names are not."""
    assert kilroy_engine.read_run is read_run
    assert kilroy_engine.tail_events is tail_events
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = kilroy_engine.nonsense


def test_run_log_has_kilroys_records(tmp_path: Path) -> None:
    """Fields in order, exactly three digits of fraction, data only when there is some."""
    log = RunLog(RunDirectory(tmp_path))
    log.run_started("r1", graph="demo", workspace="/w")
    log.node_completed("a", status="success", duration_ms=12, attempt=1)
    log.edge_selected("a", "b", method="only_edge", condition="")
    log.tool_output("a", "stderr", "half\ud800")
    log.checkpoint_saved("a", sha="c0ffee1234")
    lines = [json.loads(line) for line in (tmp_path / "run.log").read_text().splitlines()]
    assert list(lines[0]) == ["ts", "level", "source", "node", "event", "msg", "data"]
    assert lines[0]["data"] == {"run_id": "r1", "workspace": "/w", "inputs": None, "graph": "demo"}
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line["ts"]) for line in lines)
    assert [line["msg"] for line in lines] == [
        "Run started: demo",
        "Node a: success (12ms)",
        "a → b (only_edge)",
        "half\ufffd",
        "Checkpoint: c0ffee12",
    ]
    assert "data" not in lines[3]
