"""Runs for the contract tests: opened, concluded, ended in this or in other processes; and what must hold of an ended one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from starts import open_start

from kilroy_engine.events import Event, GitPushOk, GitPushStart, RunStarted
from kilroy_engine.events.times import now
from kilroy_engine.rundir.ending.closing import ClosingLimits
from kilroy_engine.rundir.ending.finalize import end_run, owner_for
from kilroy_engine.rundir.ending.starts import OpenStart
from kilroy_engine.rundir.files.layout import RunDirectory
from kilroy_engine.rundir.files.records import Conclusion, FinalOutcome, Manifest
from kilroy_engine.rundir.stream.progress import read_events
from kilroy_engine.traversal.outcome import FinalStatus

TERMINAL = {"run_completed", "run_failed"}
QUICK = ClosingLimits(grace_s=0.2, archive_s=10, push_s=10)


class PushingWorkspace:
    """A workspace whose push always works; its events are Kilroy's."""

    def push(self, final: FinalOutcome, *, limit_s: float) -> Iterable[Event]:
        yield GitPushStart(remote="origin", branch="attractor/run/r1")
        yield GitPushOk(remote="origin", branch="attractor/run/r1")

    def tidy(self, final: FinalOutcome) -> Iterable[Event]:
        yield from ()


def opening(flow_run_id: str = "flow-1") -> RunStarted:
    return RunStarted(flow_run_id=flow_run_id, graph_name="demo", goal="")


def begin(path: Path, flow_run_id: str = "flow-1", *, restarted: bool = False) -> OpenStart:
    """Opens a start and gives it a manifest with one declared output, and a first restart directory if asked."""
    start = open_start(RunDirectory(path), opening(flow_run_id), run_id="r1")
    start.run.worktree.mkdir(exist_ok=True)
    (start.run.worktree / "report.txt").write_text("42\n")
    manifest = Manifest(run_id="r1", started_at=now(), worktree=str(start.run.worktree), outputs=["report.txt"])
    manifest.write(start.run)
    if restarted:
        start.run.restart(1).path.mkdir(exist_ok=True)
    return start


def conclude(start: OpenStart, status: FinalStatus = FinalStatus.SUCCESS, reason: str = "") -> None:
    """Stages a conclusion and lets the flow's process go."""
    Conclusion(status=status, reason=reason, sha="c0ffee", start=start.owner.start).write(start.run)
    start.close()


def finalize_from_disk(path: Path, flow_run_id: str = "flow-1") -> FinalOutcome:
    """Ends the run as a hook in a fresh process would: from the directory alone."""
    run = RunDirectory(path)
    return end_run(run, owner_for(run, flow_run_id), closing=PushingWorkspace(), limits=QUICK)


def run_elsewhere(function: str, *arguments: str, failpoint: str = "") -> int:
    """Calls a function of this module in a process of its own; its exit code, -9 when a failpoint killed it."""
    code = f"import sys; import rundir_runs as r; r.{function}(*sys.argv[1:])"
    here = Path(__file__).parent
    environ = {**os.environ, "KILROY_FAILPOINT": failpoint, "PYTHONPATH": f"{here}{os.pathsep}{here.parent}"}
    result = subprocess.run([sys.executable, "-c", code, *arguments], env=environ, capture_output=True, check=False, timeout=60)
    if result.returncode not in (0, -9):
        raise AssertionError(result.stderr.decode())
    return result.returncode


def finalize_by_name(path: str, flow_run_id: str = "flow-1") -> None:
    """:func:`finalize_from_disk` for a command line."""
    finalize_from_disk(Path(path), flow_run_id)


def resume_by_name(path: str, flow_run_id: str) -> None:
    """Begins a start for a command line."""
    begin(Path(path), flow_run_id)


def events_of(directory: RunDirectory) -> list[dict[str, object]]:
    return list(read_events(directory.progress))


def terminal_lines(directory: RunDirectory) -> list[dict[str, object]]:
    return [event for event in events_of(directory) if event["event"] in TERMINAL]


def assert_ended(directory: RunDirectory, status: str, *, starts: int = 1, reason: str | None = None) -> None:
    """I1 to I5 for one directory: the line is last, one per start, and final.json says the same."""
    final = json.loads(directory.final.read_bytes())
    events = events_of(directory)
    assert events[-1]["event"] in TERMINAL
    lines = terminal_lines(directory)
    assert [line["start"] for line in lines] == list(range(1, starts + 1))
    assert lines[-1]["status"] == final["status"] == status
    assert lines[-1].get("reason") == final.get("failure_reason")
    assert final["start"] == starts
    if reason is not None:
        assert final.get("failure_reason") == reason
    assert json.loads(directory.live.read_bytes()) == events[-1]
