"""A start of a run without a flow around it: the directory is made, locked, and told to have begun."""

from __future__ import annotations

from kilroy_engine.events import RunStarted
from kilroy_engine.rundir.ending.closing import NOTHING, Closing
from kilroy_engine.rundir.ending.starts import OpenStart, begin_start
from kilroy_engine.rundir.files.layout import RunDirectory
from kilroy_engine.rundir.ownership.ownership import RunLock


def open_start(
    run: RunDirectory, opening: RunStarted, *, run_id: str, from_node: str = "", closing: Closing = NOTHING
) -> OpenStart:
    """Begins a start as :func:`kilroy_engine.execution.opening.open_run` does; a start that is refused holds no lock.

    Raises:
        RunAlreadyOwned: a live process owns the directory; nothing was changed.
        RunAlreadyFinished: the run has succeeded.
    """
    run.path.mkdir(parents=True, exist_ok=True)
    lock = RunLock.acquire(run)
    try:
        return begin_start(lock, opening, run_id=run_id, from_node=from_node, closing=closing)
    except BaseException:
        lock.release()
        raise
