"""How a start of a run begins: it takes the directory, answers for the start before, and tells that it is there."""

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
    """A start that owns its run directory. ``previous`` is how the start before ended, None for the first.

    Keep it for the life of the flow process: it holds the lock. Touch the lock every
    :data:`~kilroy_engine.rundir.ownership.ownership.TOUCH_INTERVAL_S`.
    """

    run: RunDirectory
    run_id: str
    owner: Owner
    lock: RunLock
    progress: ProgressLog
    previous: FinalOutcome | None

    def close(self) -> None:
        """Gives the run free; appends of threads left over are refused from now on."""
        self.progress.close()
        self.lock.release()


def begin_start(
    lock: RunLock, opening: RunStarted, *, run_id: str, from_node: str = "", closing: Closing = NOTHING
) -> OpenStart:
    """Begins a start of the run whose lock is held; the caller releases it where this fails.

    A start before that nobody has ended is ended first, from what it left on disk; ``closing`` is for that end, should it be a
    success. ``from_node`` is where the resume goes on.

    Raises:
        RunAlreadyFinished: the run has succeeded; nothing was changed but what was missing of its end.
    """
    run = lock.run
    previous = _end_previous(run, lock.previous, closing)
    owner = Owner(opening.flow_run_id, next_start(run))
    with turn(run.end_lock, wait_s=ClosingLimits().total_s):
        progress = _take_over(run, lock, owner, run_id=run_id, opening=opening, from_node=from_node)
    write_text(run.pid, str(os.getpid()))
    return OpenStart(run, run_id, owner, lock, progress, previous)


def next_start(run: RunDirectory) -> int:
    """Number of the start that comes next.

    A start that died before it told anything is none. One that died before it was on record may have an end all the same.
    """
    record, final = find_record(run), FinalOutcome.find(run)
    if final is None and last_event(run.progress) is None:
        return 1
    return max(record.start if record else 0, final.start if final else 0) + 1


def _end_previous(run: RunDirectory, record: RunLockRecord | None, closing: Closing) -> FinalOutcome | None:
    """How the start of ``record`` ended; its end is written if it has none. None when it told nothing at all."""
    if record is None or last_event(run.progress) is None:
        return None
    owner = Owner(record.flow_run_id, record.start)
    final = end_of(run, owner)
    if final.status is FinalStatus.SUCCESS:
        finalize_run(run, final, owner=owner, closing=closing)
        raise RunAlreadyFinished(f"the run in {run.path} has succeeded; there is nothing to resume", path=run.path)
    # The work goes on: neither archive nor push, only the end that was missing.
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
    progress = ProgressLog(run, run_id)
    with progress.exclusive():
        # From this record on, a late finalizer of the start before changes nothing.
        lock.record(owner, run_id)
        if last_event(run.progress) is None:
            progress.append(opening)
        for directory in run.ending_directories():
            log = progress if directory == run else ProgressLog(directory, run_id)
            make_room(directory, log, start=owner.start, from_node=from_node)
            if log is not progress:
                log.close()
    return progress
