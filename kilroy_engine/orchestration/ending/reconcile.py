"""Ends lost runs: runs whose process is gone, half-written ends, flow runs whose end Prefect was never told.

Prefect runs no state hook when a worker is stopped, a script is killed or the server is away. Such a run directory lacks its
terminal line, or Prefect shows the flow run at work for ever. The reconciler looks for both and ends them through
:func:`~kilroy_engine.rundir.ending.finalize.end_run`, as a hook would have.

Several reconcilers may run at once: the one that ends a run holds the run's lock.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import httpx
from prefect.client.schemas.objects import FlowRun
from prefect.exceptions import PrefectException

from kilroy_engine.errors import KilroyError, RunAlreadyOwned
from kilroy_engine.orchestration.ending.lost import (
    DEFAULT_PATIENCE,
    EndIt,
    Leave,
    Patience,
    cancel_bodiless,
    decide,
    end_lost_run,
    is_left_over,
    now,
    tell_prefect,
)
from kilroy_engine.orchestration.ending.told import PrefectApi, asking_prefect
from kilroy_engine.orchestration.locate import RUN_DIRECTORY_LABEL, directory_of
from kilroy_engine.orchestration.states import end_state
from kilroy_engine.rundir.ending.liveness import examine, run_directories
from kilroy_engine.rundir.files.layout import RunDirectory
from kilroy_engine.rundir.files.records import FinalOutcome
from kilroy_engine.rundir.files.regular import read_file
from kilroy_engine.rundir.ownership.ownership import RunLock, current_owner
from kilroy_engine.rundir.stream.progress import is_ended
from kilroy_engine.threads import beside
from kilroy_engine.workspace.stale import discard_worktree, stale_worktree

__all__ = ["Action", "Finding", "Patience", "reconcile", "reconcile_quickly", "reconciling"]

QUICK_LIMIT = 200
"""How many run directories each start looks at, the latest changed first. Costs some 20 ms in a thread of its own."""

QUIET_S = 2.0
"""How long a start without lost neighbors runs before it asks Prefect for unfinished flow runs."""
JOIN_S = 5.0
_log = logging.getLogger(__name__)


class Action(StrEnum):
    """What is done about a run."""

    END = "end"
    STATE = "state"
    WORKTREE = "worktree"
    LEAVE = "leave"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found about one run, and what is done about it, or would be in a dry run. ``what`` is a text for people.

    ``status`` is the final status of the run, "" where the run has no end.
    """

    run: RunDirectory
    action: Action
    what: str
    status: str = ""

    @property
    def run_id(self) -> str:
        """The name of the run directory, which is the run's id unless the directory was placed elsewhere."""
        return self.run.path.name


def reconcile(root: Path, *, patience: Patience = DEFAULT_PATIENCE, dry_run: bool = False) -> list[Finding]:
    """Ends every lost run below ``root``, and every lost run elsewhere on this machine that Prefect shows at work.

    A child pipeline is not ended by itself: the end of the run around it includes the child's end.

    Also sets the states of flow runs and task runs that a dead process has left, and removes worktrees past their age. With
    ``dry_run`` nothing is changed. An API that does not answer is no error: then the disk alone decides.
    """
    with asking_prefect() as prefect:
        at_work = [(flow_run, directory_of(flow_run, os.environ)) for flow_run in prefect.unfinished()]
        runs = {run.path: run for run in run_directories(root)}
        runs |= {run.path: run for _, run in at_work if run is not None and run.path.is_dir() and not run.supervisor.exists()}
        reconciler = _Reconciler(prefect, patience, dry_run=dry_run)
        findings = [found for run in runs.values() for found in reconciler.end(run)]
        ended = {found.run.path for found in findings}
        for flow_run, run in at_work:
            if run is not None and run.path not in ended:
                begun = run.path.is_dir()
                findings += reconciler.end_in_prefect(flow_run, run) if begun else reconciler.end_bodiless(flow_run, run)
        for run in runs.values():
            findings += reconciler.tidy(run)
    return findings


def reconcile_quickly(root: Path, *, finished: threading.Event, limit: int = QUICK_LIMIT) -> list[Finding]:
    """Ends the lost runs among the ``limit`` latest changed directories below ``root``. Called at each start of a run.

    Also ends the flow runs that Prefect shows at work although their runs have ended. Stops early once ``finished`` is set.
    """
    lost = [run for run in run_directories(root, limit=limit) if not finished.is_set() and _is_lost(run)]
    # A Prefect client costs 40 ms beside the first stages. A start without lost neighbors asks Prefect later, or never.
    if finished.wait(0.0 if lost else QUIET_S):
        return []
    with asking_prefect() as prefect:
        reconciler = _Reconciler(prefect, DEFAULT_PATIENCE, dry_run=False)
        findings = [found for run in lost if not finished.is_set() for found in reconciler.end(run)]
        for flow_run in prefect.unfinished():
            run = directory_of(flow_run, os.environ)
            if run is not None and run.path.is_dir() and not finished.is_set():
                findings += reconciler.end_in_prefect(flow_run, run)
        return findings


def reconciling(root: Path) -> AbstractContextManager[None]:
    """Calls :func:`reconcile_quickly` in a thread beside the block. The block's end waits up to 5 s for the thread."""

    def work(finished: threading.Event) -> None:
        try:
            findings = reconcile_quickly(root, finished=finished)
        except (httpx.HTTPError, PrefectException) as error:
            _log.warning("lost runs below %s are left to the next reconciliation: %s", root, error)
            return
        for found in findings:
            _log.info("run %s: %s: %s", found.run_id, found.action, found.what)

    return beside(work, name="kilroy-reconcile", join_s=JOIN_S)


def _is_lost(run: RunDirectory) -> bool:
    try:
        found = examine(run)
    except Exception:  # noqa: BLE001 - an error in one run directory must not keep the others from their end
        return False  # `kilroy reconcile` reports the error
    return found is not None and found.silent_s >= DEFAULT_PATIENCE.grace_s


class _Reconciler:
    def __init__(self, prefect: PrefectApi, patience: Patience, *, dry_run: bool) -> None:
        self._prefect = prefect
        self._patience = patience
        self._dry_run = dry_run

    def end(self, run: RunDirectory) -> Iterator[Finding]:
        """Ends the run if it is lost. Yields nothing for a run that has ended or is at work."""
        try:
            found = examine(run)
            if found is None:
                return
            told = self._prefect.flow_run(found.owner.flow_run_id)
            match decide(found, told, self._patience, at=now()):
                case Leave(why):
                    yield Finding(run, Action.LEAVE, why)
                case EndIt() as end if self._dry_run:
                    yield Finding(run, Action.END, f"would be ended: {end.observed.reason}")
                case EndIt() as end:
                    final = end_lost_run(found, end, told.flow_run, self._prefect)
                    yield Finding(run, Action.END, final.failure_reason or "its end is complete now", final.status)
        except RunAlreadyOwned:
            yield Finding(run, Action.LEAVE, "another process took it just now")
        except Exception as error:  # noqa: BLE001 - an error in one run directory must not keep the others from their end
            yield _failed(run, error)

    def end_in_prefect(self, flow_run: FlowRun, run: RunDirectory) -> Iterator[Finding]:
        """Sets Prefect's states where the end has been on disk for longer than the grace and Prefect does not show it."""
        try:
            final = _end_of_flow_run(run, str(flow_run.id))
            if final is None or not is_left_over(flow_run.state, final, self._patience, at=now()):
                return
            before = flow_run.state.name if flow_run.state else "no state"
            if not self._dry_run:
                tell_prefect(run, flow_run, final, self._prefect, announce=False)
        except Exception as error:  # noqa: BLE001 - the same
            yield _failed(run, error)
        else:
            verb = "would be set" if self._dry_run else "set"
            yield Finding(run, Action.STATE, f"flow run {verb} from {before} to {end_state(final).name}", final.status)

    def end_bodiless(self, flow_run: FlowRun, run: RunDirectory) -> Iterator[Finding]:
        """Sets a flow run to Cancelled that is CANCELLING for longer than the grace and whose body opened no run directory."""
        state = flow_run.state
        opened = RUN_DIRECTORY_LABEL in flow_run.labels
        if state is None or opened or not state.is_cancelling():
            return
        if (now() - state.timestamp).total_seconds() < self._patience.grace_s:
            return
        if not self._dry_run:
            cancel_bodiless(flow_run, self._prefect)
        verb = "would be set" if self._dry_run else "set"
        yield Finding(run, Action.STATE, f"flow run {verb} from {state.name} to Cancelled; it never opened a run directory")

    def tidy(self, run: RunDirectory) -> Iterator[Finding]:
        """Removes the worktree of an ended run that is past its age."""
        try:
            worktree = stale_worktree(run, now())
            if worktree is None or not is_ended(run.progress):
                return
            if self._dry_run:
                yield Finding(run, Action.WORKTREE, f"worktree would be removed: {worktree}")
                return
            lock = RunLock.acquire(run)
            try:
                removed = discard_worktree(run)
            finally:
                lock.release()
        except RunAlreadyOwned:
            return  # somebody resumes the run
        except Exception as error:  # noqa: BLE001 - the same
            yield _failed(run, error, "worktree not removed: ")
        else:
            if removed:
                yield Finding(run, Action.WORKTREE, f"worktree removed: {worktree}; its branch stays")


def _failed(run: RunDirectory, error: Exception, what: str = "") -> Finding:
    if not isinstance(error, KilroyError | OSError):
        _log.error("%s could not be reconciled", run.path, exc_info=error)
        return Finding(run, Action.ERROR, f"{what}{type(error).__name__}: {error}")
    return Finding(run, Action.ERROR, f"{what}{error}")


def _end_of_flow_run(run: RunDirectory, flow_run_id: str) -> FinalOutcome | None:
    """The end of the flow run's start in this run directory; None while that start has no end."""
    owner = current_owner(run)
    if owner is not None and owner.flow_run_id == flow_run_id:
        final = FinalOutcome.find(run)
        return final if final is not None and final.start == owner.start and is_ended(run.progress) else None
    for path in run.path.glob("final*.json"):
        content = read_file(path)
        final = FinalOutcome.parse(content, path) if content is not None else None
        if final is not None and final.flow_run_id == flow_run_id:
            return final
    return None
