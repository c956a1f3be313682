"""Decides whether a run without an end is lost, and ends a lost run as a state hook would have."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import UTC, datetime

from prefect.client.schemas.objects import FlowRun, State
from prefect.states import Cancelled

from kilroy_engine.orchestration.ending.end_in_prefect import end_childrens_flow_runs, end_flow_run, end_task_runs
from kilroy_engine.orchestration.ending.hooks import publish_end, telling
from kilroy_engine.orchestration.ending.told import PrefectApi, Told
from kilroy_engine.orchestration.states import agrees, observed_in
from kilroy_engine.rundir.ending.finalize import end_run
from kilroy_engine.rundir.ending.liveness import OwnerPlace, UnendedRun
from kilroy_engine.rundir.ending.which_end_wins import Observed
from kilroy_engine.rundir.files.layout import RunDirectory
from kilroy_engine.rundir.files.records import FinalOutcome
from kilroy_engine.rundir.ownership.ownership import RunLock
from kilroy_engine.rundir.stream.progress import is_ended
from kilroy_engine.workspace.closing import closing_of

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a run may be silent before it counts as lost, in seconds.

    ``grace_s`` counts from the last sign of life of any kind, because a hook may still start in another process (seen up to
    45 s after a cancel). ``heartbeat_s`` is for owners on another machine or before a reboot, known by the lock file only.
    """

    grace_s: float = 120.0
    heartbeat_s: float = 300.0


DEFAULT_PATIENCE = Patience()


@dataclass(frozen=True, slots=True)
class Leave:
    """The decision to leave the run alone. ``why`` is the reason for people."""

    why: str


@dataclass(frozen=True, slots=True)
class EndIt:
    """The decision to end the run, which nobody else will end. ``observed`` is added to the evidence on disk."""

    observed: Observed


def decide(found: UnendedRun, told: Told, patience: Patience, *, at: datetime) -> EndIt | Leave:
    """Whether to end a run whose lock nobody holds. ``at`` is the present time. Pure."""
    state = told.flow_run.state if told.flow_run else None
    if found.silent_s < patience.grace_s:
        return Leave(f"its last sign of life is {found.silent_s:.0f} s old, less than the grace of {patience.grace_s:g} s")
    if state is not None and (at - state.timestamp).total_seconds() < patience.grace_s:
        return Leave(f"Prefect has set it to {state.name} within the grace of {patience.grace_s:g} s")
    if state is not None and (state.is_paused() or state.is_scheduled()):
        return Leave(f"Prefect shows it as {state.name}: it goes on when it is resumed or due")
    if found.place is not OwnerPlace.HERE and found.heartbeat_age_s < patience.heartbeat_s:
        return Leave(f"its owner, {found.place}, showed a heartbeat {found.heartbeat_age_s:.0f} s ago")
    if found.place is OwnerPlace.ELSEWHERE and state is None:
        silent = "Prefect does not answer" if not told.reachable else "Prefect does not know its flow run"
        return Leave(f"it was owned by {found.host}, and {silent}")
    if not told.reachable and found.waits_for_person:
        return Leave("it waits for a person, and Prefect does not answer")
    if state is None or (not state.is_final() and not state.is_cancelling()):
        who = f"the flow process (pid {found.pid} on {found.host})" if found.pid else "the flow process"
        reason = f"crashed: {who} is gone and has left no end; `kilroy resume {found.run.path.name}` goes on with it"
        return EndIt(Observed(reason=reason, crashed=True))
    return EndIt(observed_in(state))


def is_left_over(state: State | None, final: FinalOutcome, patience: Patience, *, at: datetime) -> bool:
    """Whether ``state`` does not show the end ``final``, although the grace is over. ``at`` is the present time. Pure.

    A state younger than the grace may belong to a new start: *Retry* sets one before the new process begins.
    """
    if agrees(state, final):
        return False
    youngest = max(final.timestamp, state.timestamp) if state is not None else final.timestamp
    return (at - youngest).total_seconds() >= patience.grace_s


def end_lost_run(found: UnendedRun, end: EndIt, flow_run: FlowRun | None, prefect: PrefectApi) -> FinalOutcome:
    """Ends the run on disk, then in Prefect. Holds the run's lock while it writes, so that nobody resumes the run meanwhile.

    Raises:
        RunAlreadyOwned: Another process holds the lock.
        RunDirectoryError: The run directory cannot be read or written.
    """
    run, owner = found.run, found.owner
    lock = RunLock.acquire(run)
    try:
        over = is_ended(run.progress) and found.half_written
        final = end_run(run, owner, end.observed, closing=closing_of(run))
    finally:
        lock.release()
    if flow_run is not None and prefect.reachable:
        tell_prefect(run, flow_run, final, prefect, announce=not over)
    return final


def tell_prefect(run: RunDirectory, flow_run: FlowRun, final: FinalOutcome, prefect: PrefectApi, *, announce: bool) -> None:
    """Sets Prefect's states after the end on disk, for an end that no hook has reported.

    ``announce`` also sends the event of the end and publishes the summary.
    """
    with telling(_log):
        end_flow_run(flow_run, final, client=prefect.client)
        end_task_runs(flow_run.id, final, client=prefect.client)
        end_childrens_flow_runs(run, client=prefect.client)
        if announce:
            flow_name = prefect.client.read_flow(flow_run.flow_id).name
            publish_end(run, final, flow_run, flow_name=flow_name)


def cancel_bodiless(flow_run: FlowRun, prefect: PrefectApi) -> None:
    """Sets the flow run to Cancelled. Called for a flow run that was canceled before it opened a run directory."""
    with telling(_log):
        message = "canceled in the Prefect UI or API before the run began"
        prefect.client.set_flow_run_state(flow_run.id, Cancelled(message=message), force=True)


def now() -> datetime:
    """The present time in UTC."""
    return datetime.now(UTC)
