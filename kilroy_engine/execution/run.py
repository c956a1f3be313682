"""One start of a run in this process: its identity, its lock, its stream, and how its end is recorded for the state hook."""

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
    """One start of a run. ``stream`` holds the events of the walk's current directory: the run directory or the latest
    ``restart-N``. ``is_child`` is set for a child pipeline, which ends with the run around it. ``ending`` is set when the state
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
        """The run directory, also during a restart."""
        return self.started.run

    def emit(self, event: Event) -> None:
        """Appends an event to the run's stream. After the run's end the event is dropped, and the stream logs that."""
        try:
            self.stream.append(event)
        except RunEnded:
            return

    def move_to(self, restart: RunDirectory) -> ProgressLog:
        """Moves the run's stream to the directory ``restart`` (a ``restart-N``) and returns the new stream. Listeners of the
        old stream also hear the new one."""
        left, self.stream = self.stream, self.started.progress.beside(restart)
        if left is not self.started.progress:
            left.close()
        return self.stream

    def stop_requested(self) -> CancelRequest | None:
        """The stop request on disk for this start; None if there is none."""
        return cancel_requested(self.directory, self.started.owner.start)

    def conclude(self, status: FinalStatus, reason: str) -> Conclusion:
        """Writes ``conclusion.json`` for the state hook, after ending all child processes."""
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
        """Ends child processes and writes down why the run ends. Called when the exception ``by`` leaves the walk.

        Errors of the disk and of records are logged, so that the caller can raise ``by`` again. The state hook or the
        reconciler finds out what could not be written down.
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
        """Ends every living process group that a stage of this run has recorded."""
        end_process_groups(self.directory, grace_s=END_GRACE_S)

    def close(self) -> None:
        """Releases the lock and closes the files. Called when this process has finished with the run."""
        _LIVE.pop(self.identity.flow_run_id, None)
        self.workspace.close()
        if self.stream is not self.started.progress:
            self.stream.close()
        self.started.close()


def one_line(error: BaseException) -> str:
    """An exception as one line: its type and its message."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}".rstrip(": ")


_LIVE: dict[UUID, Run] = {}


def register(run: Run) -> None:
    """Makes :func:`live_run` find the run until the run is closed."""
    _LIVE[run.identity.flow_run_id] = run


def live_run(flow_run_id: UUID) -> Run | None:
    """The run of this flow run, if this process has opened it; None in a hook that runs in another process."""
    return _LIVE.get(flow_run_id)


def live_runs() -> tuple[Run, ...]:
    """The runs that this process has opened and not closed."""
    return tuple(_LIVE.values())
