"""Stops a run from another process: requests the stop on disk and in Prefect, and ends the run itself where that fails."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass

import httpx
from prefect.client.schemas.objects import FlowRun
from prefect.exceptions import PrefectException
from prefect.states import Cancelling

from kilroy_engine.errors import CorruptRecord, RunAlreadyOwned, RunDirectoryError, RunEnded, StopKind
from kilroy_engine.orchestration.ending.lost import EndIt, end_lost_run
from kilroy_engine.orchestration.ending.told import PrefectApi, asking_prefect
from kilroy_engine.rundir.ending.cancel import request_cancel
from kilroy_engine.rundir.ending.liveness import OwnerPlace, examine
from kilroy_engine.rundir.ending.which_end_wins import Observed
from kilroy_engine.rundir.files.layout import RunDirectory
from kilroy_engine.rundir.files.machine import boot_id, host_name, is_same_process
from kilroy_engine.rundir.files.records import FinalOutcome, Manifest
from kilroy_engine.rundir.ownership.ownership import current_owner, find_record, owner_alive
from kilroy_engine.rundir.stream.progress import is_ended
from kilroy_engine.traversal.outcome import FinalStatus

SOURCE = "by kilroy stop"
LOST_AFTER_S = 5.0
"""How long :func:`stop_run` leaves a run without a process to a state hook, which may be writing the end."""
_KILL_WAIT_S = 10.0
_POLL_S = 0.1


@dataclass(frozen=True, slots=True)
class Stopped:
    """A run that has ended. ``forced`` is true when the grace ran out. ``pid`` is the owner's process, 0 where unknown."""

    final: FinalOutcome
    pid: int
    forced: bool


def stop_run(run: RunDirectory, *, grace_s: float, force: bool) -> Stopped | None:
    """Stops the run and waits for its terminal line. Returns None when the run has no end after ``grace_s`` seconds.

    The request is written to the run directory, where the run's process finds it. A supervised run is also canceled in
    Prefect, whose worker ends the process. A run without a process is ended by this function. With ``force`` the process is
    killed after the grace, and then the run is ended.

    Raises:
        RunEnded: The run has ended already.
        RunDirectoryError: The process is on another machine, or the run directory cannot be read or written.
    """
    if _has_ended(run):
        raise RunEnded(f"run {run.path.name} has ended already", path=run.path)
    pid = owner_pid(run)
    request_cancel(run, StopKind.PERSON, SOURCE)
    with asking_prefect() as prefect:
        flow_run = _cancel_in_prefect(run, prefect)
        final = _wait_for_end(run, flow_run, prefect, grace_s=grace_s)
        if final is not None:
            return Stopped(final, pid, forced=False)
        if not force:
            return None
        _kill_owner(run)
        final = _wait_for_end(run, flow_run, prefect, grace_s=_KILL_WAIT_S + LOST_AFTER_S)
        return Stopped(final, pid, forced=True) if final is not None else None


def owner_pid(run: RunDirectory) -> int:
    """Process id of the run's owner, 0 where the lock's record is missing or damaged."""
    try:
        record = find_record(run)
    except CorruptRecord:
        return 0
    return record.pid if record else 0


def _has_ended(run: RunDirectory) -> bool:
    try:
        return is_ended(run.progress)
    except CorruptRecord:
        return False  # a stage has damaged the file: that is no end


def _cancel_in_prefect(run: RunDirectory, prefect: PrefectApi) -> FlowRun | None:
    """Sets CANCELLING for a run that a worker supervises or that no process owns. Returns the flow run, None where unknown."""
    owner = current_owner(run)
    flow_run = prefect.flow_run(owner.flow_run_id).flow_run if owner else None
    manifest = Manifest.find(run)
    supervised = manifest is not None and bool(manifest.deployment_id)
    if flow_run is not None and (supervised or not owner_alive(run)):
        try:
            prefect.client.set_flow_run_state(flow_run.id, Cancelling(message=f"canceled: {SOURCE}"))
        except (httpx.HTTPError, PrefectException):
            pass  # the run's process finds the request on disk a little later
    return flow_run


def _wait_for_end(run: RunDirectory, flow_run: FlowRun | None, prefect: PrefectApi, *, grace_s: float) -> FinalOutcome | None:
    deadline = time.monotonic() + grace_s
    lost_since: float | None = None
    while True:
        try:
            final = FinalOutcome.find(run)
            if final is not None and is_ended(run.progress):
                return final
            found = examine(run)
        except CorruptRecord:
            found = None  # a stage has damaged a file; the process that writes the end mends it
            if time.monotonic() >= deadline:
                raise
        lost_since = (lost_since or time.monotonic()) if found is not None and found.place is OwnerPlace.HERE else None
        if found is not None and lost_since is not None and time.monotonic() - lost_since >= min(LOST_AFTER_S, grace_s):
            try:
                return end_lost_run(found, EndIt(Observed(FinalStatus.CANCELED, f"canceled: {SOURCE}")), flow_run, prefect)
            except RunAlreadyOwned:
                lost_since = None  # another process ends the run
        if time.monotonic() >= deadline:
            return None
        time.sleep(_POLL_S)


def _kill_owner(run: RunDirectory) -> None:
    record = find_record(run)
    if record is None or not owner_alive(run):
        return
    if (record.host, record.boot_id) != (host_name(), boot_id()):
        raise RunDirectoryError(
            f"run {run.path.name} is at work on {record.host} (pid {record.pid}); its process can only be killed there",
            path=run.path,
        )
    if is_same_process(record.pid, record.pid_start_time):
        os.kill(record.pid, signal.SIGKILL)
