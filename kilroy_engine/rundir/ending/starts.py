"""Begins a start of a run: takes over the run directory, ends the start before, and writes the first event."""

from __future__ import annotations

import os
from dataclasses import dataclass

from kilroy_engine.errors import RunAlreadyFinished
from kilroy_engine.events import RunStarted
from kilroy_engine.rundir.ending.closing import NOTHING, Closing, ClosingLimits
from kilroy_engine.rundir.ending.finalize import Finalizer, end_of, finalize_run, make_room
from kilroy_engine.rundir.files.atomic import write_text
from kilroy_engine.rundir.files.layout import RunDirectory
from kilroy_engine.rundir.files.locks import turn
from kilroy_engine.rundir.files.records import FinalOutcome, RunLockRecord
from kilroy_engine.rundir.ownership.ownership import Owner, RunLock, find_record
from kilroy_engine.rundir.stream.progress import ProgressLog, last_event
from kilroy_engine.traversal.outcome import FinalStatus


@dataclass(frozen=True)
class OpenStart:
    """A start that owns its run directory. ``previous`` is the end of the start before, None for the first start.

    The flow process keeps this object for its whole life, because ``lock`` holds the run's lock. The lock must be touched every
    :data:`~kilroy_engine.rundir.ownership.ownership.TOUCH_INTERVAL_S`.
    """

    run: RunDirectory
    run_id: str
    owner: Owner
    lock: RunLock
    progress: ProgressLog
    previous: FinalOutcome | None

    def close(self) -> None:
        """Releases the run. Later appends of threads that still run are refused."""
        self.progress.close()
        self.lock.release()


def begin_start(
    lock: RunLock, opening: RunStarted, *, run_id: str, from_node: str = "", closing: Closing = NOTHING
) -> OpenStart:
    """Begins a start of the run whose lock is held. The caller releases the lock where this raises.

    If the start before has no end, it is ended first, from its files. ``closing`` is used where that end is a success.
    ``from_node`` is the node that the resume goes on from.

    Raises:
        RunAlreadyFinished: The run has succeeded; only missing steps of its end were added.
    """
    run = lock.run
    previous = _end_previous(run, lock.previous, closing)
    owner = Owner(opening.flow_run_id, next_start(run))
    with turn(run.end_lock, wait_s=ClosingLimits().total_s):
        progress = _take_over(run, lock, owner, run_id=run_id, opening=opening, from_node=from_node)
    write_text(run.pid, str(os.getpid()))
    return OpenStart(run, run_id, owner, lock, progress, previous)


def next_start(run: RunDirectory) -> int:
    """Number of the next start.

    A start that died before its first event does not count. A start that died before its record was written may still have an
    end, which counts.
    """
    record, final = find_record(run), FinalOutcome.find(run)
    if final is None and last_event(run.progress) is None:
        return 1
    return max(record.start if record else 0, final.start if final else 0) + 1


def _end_previous(run: RunDirectory, record: RunLockRecord | None, closing: Closing) -> FinalOutcome | None:
    """How the start of ``record`` ended; a missing end is written. None when that start has appended no event."""
    if record is None or last_event(run.progress) is None:
        return None
    owner = Owner(record.flow_run_id, record.start)
    final = end_of(run, owner)
    if final.status is FinalStatus.SUCCESS:
        finalize_run(run, final, owner=owner, closing=closing)
        raise RunAlreadyFinished(f"the run in {run.path} has succeeded; there is nothing to resume", path=run.path)
    # The run goes on, so the start before gets its missing end without archive and push.
    finalizer = Finalizer(run, owner)
    try:
        ended = finalizer.ended()
        if ended is None:
            ended = finalizer.commit_final(final)
            finalizer.commit_line(ended)
        return ended
    finally:
        finalizer.close()


def _take_over(
    run: RunDirectory, lock: RunLock, owner: Owner, *, run_id: str, opening: RunStarted, from_node: str
) -> ProgressLog:
    """Makes ``owner`` the run's owner, renames the end of the start before, and appends ``opening`` where there is no event
    yet.
    """
    progress = ProgressLog(run, run_id)
    with progress.exclusive():
        # Once this record is written, a process that still wants to end the start before is refused.
        lock.record(owner, run_id)
        if last_event(run.progress) is None:
            progress.append(opening)
        for directory in run.ending_directories():
            log = progress if directory == run else ProgressLog(directory, run_id)
            make_room(directory, log, start=owner.start, from_node=from_node)
            if log is not progress:
                log.close()
    return progress
