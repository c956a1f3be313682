"""Ends, at the exit of the flow's process, the runs of this process that no state hook has ended.

Prefect runs no hook when the server is away as the flow returns, and a signal can interrupt a hook between its writes. Where
no worker or runner supervises the process, the next to end the run would be the reconciler.
"""

from __future__ import annotations

import logging
import threading

import httpx

from kilroy_engine.errors import KilroyError
from kilroy_engine.execution.run import Run, live_runs
from kilroy_engine.orchestration.ending.lost import tell_prefect
from kilroy_engine.orchestration.ending.told import asking_prefect
from kilroy_engine.rundir.ending.closing import HURRIED
from kilroy_engine.rundir.ending.finalize import end_run
from kilroy_engine.threads import start_thread
from kilroy_engine.workspace.closing import closing_of

_log = logging.getLogger(__name__)
_lock = threading.Lock()
_waiting: threading.Thread | None = None


def end_at_exit() -> None:
    """Makes this process call :func:`end_left_runs` at its exit. Called for each run; starts one thread per process.

    ``atexit`` comes too late: Prefect's own exit function waits without a limit for an absent server to take events.
    """
    global _waiting  # noqa: PLW0603 - one thread per process
    with _lock:
        if _waiting is None or not _waiting.is_alive():
            _waiting = start_thread(_end_after_main_thread, name="kilroy-last-chance", daemon=False)


def _end_after_main_thread() -> None:
    threading.main_thread().join()
    end_left_runs()


def end_left_runs() -> None:
    """Ends the open runs of this process that no supervisor will end, and closes the other open runs.

    Called when the main thread has ended, and by ``launch`` when the server stopped answering.
    """
    for run in live_runs():
        if _must_end(run) and not run.is_child:  # the end of a run ends its child pipelines too
            _end(run)
        else:
            run.close()  # frees the lock: this process may hang in its exit, and the reconciler needs the lock


def _must_end(run: Run) -> bool:
    """Whether this process must end the run: the run is unsupervised, its hook was interrupted, or a stop was requested that
    the supervisor need not know of. The supervisor ends all other runs."""
    return not run.identity.supervised or run.ending or run.cancellation.requested


def _end(run: Run) -> None:
    directory, owner = run.directory, run.started.owner
    try:
        final = end_run(directory, owner, closing=closing_of(directory), limits=HURRIED)
    except (KilroyError, OSError) as error:
        _log.warning("%s has no end yet: %s", directory.path, error)
        return
    finally:
        run.close()
    try:
        with asking_prefect() as prefect:
            told = prefect.flow_run(owner.flow_run_id)
            if told.flow_run is not None:
                tell_prefect(directory, told.flow_run, final, prefect, announce=True)
    except (httpx.HTTPError, RuntimeError) as error:
        # RuntimeError: the interpreter is shutting down, and the client cannot start a thread any more.
        _log.warning("the end of run %s is on disk, but Prefect could not be told: %s", run.run_id, error)
