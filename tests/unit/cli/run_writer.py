"""Run directories made by the engine's own writers."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypeAlias

from kilroy_engine.events import Event, RunCompleted, RunFailed, RunStarted, StageAttemptEnd, StageAttemptStart
from kilroy_engine.rundir.files.layout import RunDirectory
from kilroy_engine.rundir.files.records import FinalOutcome, Manifest
from kilroy_engine.rundir.ownership.ownership import Owner, RunLock
from kilroy_engine.rundir.stream.progress import ProgressLog
from kilroy_engine.traversal.outcome import FinalStatus

Kilroy: TypeAlias = Callable[..., "subprocess.CompletedProcess[str]"]
"""Calls the command with these arguments."""

PIPELINE = """digraph demo {
  start [shape=Mdiamond]
  exit [shape=Msquare]
  build [shape=parallelogram, tool_command="make"]
  start -> build
  build -> exit [condition="outcome=success"]
  build -> build [condition="outcome=fail"]
}
"""


def clean_environment(tmp_path: Path) -> dict[str, str]:
    """The process environment without settings of Kilroy, Prefect or the terminal."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("KILROY_", "PREFECT_", "COLUMNS"))}
    state = {"XDG_STATE_HOME": str(tmp_path / "state"), "PREFECT_HOME": str(tmp_path / "prefect"), "TMPDIR": str(tmp_path)}
    return kept | state | {"PYTHONUTF8": "1"}


@dataclass
class RunWriter:
    """Writes a run directory as the engine does; ``age_s`` says how long ago the run started and ended."""

    root: Path
    run_id: str
    graph_name: str = "demo"
    labels: dict[str, str] = field(default_factory=dict[str, str])
    age_s: float = 0.0
    repo_path: str = ""
    run_branch: str = ""
    base_sha: str = ""

    @property
    def run(self) -> RunDirectory:
        return RunDirectory(self.root / self.run_id)

    def open(self, source: str = PIPELINE) -> ProgressLog:
        """The files of a start."""
        self.run.path.mkdir(parents=True)
        self.run.worktree.mkdir()
        self.run.graph_dot.write_text(source, encoding="utf-8")
        self.run.pid.write_text(str(os.getpid()))
        moment = datetime.now(UTC) - timedelta(seconds=self.age_s)
        os.utime(self.run.pid, (moment.timestamp(), moment.timestamp()))
        Manifest(
            run_id=self.run_id,
            graph_name=self.graph_name,
            goal="build it",
            started_at=moment,
            logs_root=str(self.run.path),
            worktree=str(self.run.worktree),
            labels=self.labels,
            repo_path=self.repo_path,
            run_branch=self.run_branch,
            base_sha=self.base_sha,
            flow_run_id="0c0cb5e2-0000-4000-8000-000000000001",
        ).write(self.run)
        log = ProgressLog(self.run, self.run_id)
        log.append(RunStarted(flow_run_id="0c0cb5e2-0000-4000-8000-000000000001", graph_name=self.graph_name, goal="build it"))
        return log

    def own(self) -> RunLock:
        """Takes the run's lock as its flow process does; it is free again after ``release()``."""
        lock = RunLock.acquire(self.run)
        lock.record(Owner("0c0cb5e2-0000-4000-8000-000000000001", 1), self.run_id)
        return lock

    def end(self, log: ProgressLog, status: FinalStatus = FinalStatus.SUCCESS, reason: str = "") -> None:
        """``final.json``, then the terminal line."""
        moment = datetime.now(UTC) - timedelta(seconds=self.age_s)
        FinalOutcome(timestamp=moment, status=status, run_id=self.run_id, failure_reason=reason, start=1).write(self.run)
        if status is FinalStatus.SUCCESS:
            log.append(RunCompleted(start=1))
        else:
            log.append(RunFailed(status=status.value, reason=reason or None, start=1))
        log.close()

    def ended(self, status: FinalStatus = FinalStatus.SUCCESS, reason: str = "") -> RunDirectory:
        """A run of three stages that is over."""
        log = self.open()
        self.own().release()
        append_stages(log, "start", "build", "exit")
        self.end(log, status, reason)
        return self.run


Writer: TypeAlias = Callable[..., RunWriter]
"""Makes a writer for a run id, with facts as keywords."""


def append_stages(log: ProgressLog, *nodes: str) -> None:
    """Each node visited once, with success."""
    for node in nodes:
        append_all(log, stage(node))


def stage(node: str, *failures: str, limit: int = 1) -> list[Event]:
    """The attempts at a stage: one for each failure reason, then one that succeeds."""
    events: list[Event] = []
    for number, reason in enumerate([*failures, ""], start=1):
        events.append(StageAttemptStart(node_id=node, attempt=number, max=limit))
        status = "fail" if reason else "success"
        events.append(StageAttemptEnd(node_id=node, attempt=number, max=limit, status=status, failure_reason=reason))
    return events


def append_all(log: ProgressLog, events: Sequence[Event]) -> None:
    """Appends the events in order."""
    for event in events:
        log.append(event)
