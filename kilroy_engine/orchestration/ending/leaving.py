"""The last chance of the flow's own process: at its exit it ends the runs that no hook has ended.

Prefect runs no hook when the server is away as the flow returns, and a signal can interrupt a hook between its writes. Where
nothing supervises the process, nobody else would end the run before the reconciler does.
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
    """From now on this process ends what is left of its runs when it exits. Starts one thread for that, once.

    ``atexit`` comes too late: Prefect's own exit waits there, without end, for a server that is away to take its events.
    """
    global _waiting  # noqa: PLW0603 - one thread per process
    with _lock:
        if _waiting is None or not _waiting.is_alive():
            _waiting = start_thread(_end_after_main_thread, name="kilroy-last-chance", daemon=False)


def _end_after_main_thread() -> None:
    threading.main_thread().join()
    end_left_runs()


def end_left_runs() -> None:
    """Ends the runs of this process that are open and that nobody else will end, and lets go of the others."""
    for run in live_runs():
        if _is_ours(run) and not run.is_child:  # the end of the run around it is a child pipeline's end too
            _end(run)
        else:
            run.close()  # a process that hangs in its exit must not keep the reconciler away


def _is_ours(run: Run) -> bool:
    """A supervisor ends what it has ended or seen die; the rest is ours: a hook that was interrupted, and a cancel that the
    supervisor has not acted on."""
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
        # The interpreter is going: threads that a client may want cannot be started any more.
        _log.warning("the end of run %s is on disk, but Prefect could not be told: %s", run.run_id, error)
