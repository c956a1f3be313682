"""A run at work in this process: who it is, its lock, its stream, and how its end is handed on."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from uuid import UUID

from kilroy_engine.errors import KilroyError, RunEnded
from kilroy_engine.events import Event
from kilroy_engine.execution.budget import Budget
from kilroy_engine.execution.ports import Identity, Orchestrator
from kilroy_engine.execution.stall import ProgressClock
from kilroy_engine.rundir.ending.cancel import cancel_requested, request_cancel
from kilroy_engine.rundir.ending.starts import OpenStart
from kilroy_engine.rundir.files.layout import RunDirectory
from kilroy_engine.rundir.files.records import CancelRequest, Conclusion
from kilroy_engine.rundir.stages.process_groups import end_process_groups
from kilroy_engine.rundir.stream.progress import ProgressLog
from kilroy_engine.stopping import Cancellation
from kilroy_engine.traversal.outcome import FinalStatus
from kilroy_engine.workspace.base import Workspace

END_GRACE_S = 2.0
_log = logging.getLogger(__name__)


@dataclass
class Run:
    """One start of a run. ``stream`` are the events of the directory that the walk is in: the run directory itself, or its
    latest ``restart-N``. ``is_child``: a child pipeline, which ends with the run around it. ``ending`` is set when its state
    hook begins."""

    identity: Identity
    started: OpenStart
    stream: ProgressLog
    workspace: Workspace
    orchestrator: Orchestrator
    budget: Budget
    cancellation: Cancellation = field(default_factory=Cancellation)
    clock: ProgressClock = field(default_factory=ProgressClock)
    is_child: bool = False
    ending: bool = False

    @property
    def run_id(self) -> str:
        return self.started.run_id

    @property
    def directory(self) -> RunDirectory:
        """The run directory itself."""
        return self.started.run

    def emit(self, event: Event) -> None:
        """Appends an event to the run's stream. One that comes after the end is left out; the stream logs that."""
        try:
            self.stream.append(event)
        except RunEnded:
            return

    def move_to(self, restart: RunDirectory) -> ProgressLog:
        """The walk goes on in a ``restart-N`` of the run; its stream. Who listens to the run's events hears those too."""
        left, self.stream = self.stream, self.started.progress.beside(restart)
        if left is not self.started.progress:
            left.close()
        return self.stream

    def stop_requested(self) -> CancelRequest | None:
        """The request to stop that somebody left on disk for this start."""
        return cancel_requested(self.directory, self.started.owner.start)

    def conclude(self, status: FinalStatus, reason: str) -> Conclusion:
        """Stages what the walk came to, for the state hook to commit. Child processes are gone before it."""
        self.end_processes()
        self.started.lock.restore()
        stop, start = self.cancellation.stop, self.started.owner.start
        if status is FinalStatus.CANCELED and stop is not None:
            request_cancel(self.directory, stop.kind, stop.told)
        kind = stop.kind if stop is not None and status is not FinalStatus.SUCCESS else None
        conclusion = Conclusion(status=status, reason=reason, stop=kind, sha=self.workspace.head(), start=start)
        conclusion.write(self.directory)
        return conclusion

    def interrupted(self, by: BaseException) -> None:
        """Something passes through the walk: child processes end, and what is known of the end goes to disk.

        Raises nothing: ``by`` must pass on, and the state hook or the reconciler finds out the rest.
        """
        try:
            self.end_processes()
            self.started.lock.restore()
            stop = self.cancellation.stop
            if stop is not None and stop.failed:
                self.conclude(FinalStatus.FAIL, stop.reason)
            elif stop is not None:
                request_cancel(self.directory, stop.kind, stop.told)
            elif isinstance(by, Exception):
                told = self.orchestrator.explain(by) or f"the run broke off with {one_line(by)}"
                self.conclude(FinalStatus.FAIL, f"{told}; `kilroy resume {self.run_id}` goes on with the run")
        except (KilroyError, OSError) as error:
            _log.warning("%s was interrupted by %s and could not write down why: %s", self.run_id, type(by).__name__, error)

    def end_processes(self) -> None:
        """Ends every process group that a stage of this run has recorded and that still lives."""
        end_process_groups(self.directory, grace_s=END_GRACE_S)

    def close(self) -> None:
        """Lets go of lock and files: the run is over for this process."""
        _LIVE.pop(self.identity.flow_run_id, None)
        self.workspace.close()
        if self.stream is not self.started.progress:
            self.stream.close()
        self.started.close()


def one_line(error: BaseException) -> str:
    """An exception as one line: its type, and what it says."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}".rstrip(": ")


_LIVE: dict[UUID, Run] = {}


def register(run: Run) -> None:
    """From now on :func:`live_run` finds the run, until it is closed."""
    _LIVE[run.identity.flow_run_id] = run


def live_run(flow_run_id: UUID) -> Run | None:
    """The run of this flow run if it was opened in this very process; None in a hook that runs elsewhere."""
    return _LIVE.get(flow_run_id)


def live_runs() -> tuple[Run, ...]:
    """The runs that this process has opened and not closed."""
    return tuple(_LIVE.values())
