"""Signs of life of branches: heartbeats from their last event, a warning after long silence, the run's clock."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from lane_walks import lane_for, pipeline

from kilroy_engine.events import StageAttemptStart
from kilroy_engine.events.times import now, rfc3339
from kilroy_engine.execution.branching.branch import BranchWork
from kilroy_engine.execution.branching.branch_watch import HEARTBEAT_S, STALE_S, BranchWatch
from kilroy_engine.execution.lane import Lane
from kilroy_engine.rundir.files.layout import RunDirectory
from kilroy_engine.rundir.stream.progress import ProgressLog, read_events


@pytest.fixture
def lane(tmp_path: Path) -> Lane:
    """The lane of a fan-out."""
    return lane_for(tmp_path / "r1", pipeline('a [tool_command="true"] start -> a -> done'))


@pytest.fixture
def branch(lane: Lane) -> BranchWork:
    """A branch that has begun its first stage."""
    directory = RunDirectory(lane.base.path / "parallel" / "p" / "pass1" / "01-a")
    directory.path.mkdir(parents=True)
    stream = ProgressLog(directory, "r1")
    stream.append(StageAttemptStart(node_id="a", attempt=1, max=1))
    stream.close()
    return cast("BranchWork", SimpleNamespace(branch=SimpleNamespace(key="a"), directory=directory))


def told(lane: Lane, name: str) -> list[dict[str, Any]]:
    return [event for event in read_events(lane.directory.progress) if event["event"] == name]


def age(branch: BranchWork, seconds: float) -> None:
    """Makes the branch's last event as old as that."""
    text = branch.directory.live.read_text()
    event = next(event for event in read_events(branch.directory.progress))
    branch.directory.live.write_text(text.replace(event["ts"], rfc3339(now() - timedelta(seconds=seconds))))


def test_a_heartbeat_comes_every_ten_seconds_and_names_the_last_event(lane: Lane, branch: BranchWork) -> None:
    """None at the first look: the branch has just begun."""
    watch = BranchWatch(lane)
    for at in (0.0, HEARTBEAT_S - 0.1, HEARTBEAT_S, HEARTBEAT_S + 0.2, 2 * HEARTBEAT_S):
        watch.look([branch], at)

    beats = told(lane, "branch_heartbeat")
    assert len(beats) == 2
    assert {(beat["branch_key"], beat["branch_last_event"]) for beat in beats} == {("a", "stage_attempt_start")}
    assert told(lane, "branch_stale_warning") == []


def test_a_branch_that_is_silent_for_long_is_warned_of_once_a_minute(lane: Lane, branch: BranchWork) -> None:
    """Seven looks in a minute, two warnings."""
    age(branch, STALE_S + 1)
    watch = BranchWatch(lane)
    for beat in range(8):
        watch.look([branch], beat * HEARTBEAT_S)

    warnings = told(lane, "branch_stale_warning")
    assert len(warnings) == 2
    assert all(warning["branch_idle_ms"] >= STALE_S * 1000 for warning in warnings)


def test_a_damaged_live_file_costs_a_heartbeat(lane: Lane, branch: BranchWork) -> None:
    """A stage can write anything there; the next event replaces it."""
    branch.directory.live.write_bytes(b"\xff{")
    watch = BranchWatch(lane)
    for at in (0.0, HEARTBEAT_S):
        watch.look([branch], at)

    assert told(lane, "branch_heartbeat") == []


def test_a_stream_that_grows_is_progress_of_the_run(lane: Lane, branch: BranchWork) -> None:
    """A branch in another process cannot set the clock back itself; its heartbeat alone does not either."""
    watch = BranchWatch(lane)
    watch.look([branch], 0.0)
    first = lane.clock.stalled_for(0.0)
    watch.look([branch], 1.0)
    second = lane.clock.stalled_for(0.0)
    stream = ProgressLog(branch.directory, "r1")
    stream.append(StageAttemptStart(node_id="b", attempt=1, max=1))
    stream.close()
    watch.look([branch], 2.0)
    third = lane.clock.stalled_for(0.0)

    assert first is not None
    assert second is not None
    assert third is not None
    assert second > first
    assert third < second
