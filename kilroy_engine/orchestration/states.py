"""Prefect's states and Kilroy's statuses: the only place where the two vocabularies meet.

====================  ==========  =============================================================
Prefect state         status      why
====================  ==========  =============================================================
Completed             success
Failed                fail
Failed "TimedOut"     canceled    a deadline of the whole run (a node's timeout is a stage failure)
Crashed               fail        the reason begins with ``crashed:``
Cancelling/Cancelled  canceled
====================  ==========  =============================================================
"""

from __future__ import annotations

from prefect import State
from prefect.client.schemas.objects import StateType
from prefect.states import Cancelled, Cancelling, Completed, Crashed, Failed

from kilroy_engine.rundir.files.records import Conclusion, FinalOutcome
from kilroy_engine.traversal.outcome import FinalStatus, Outcome, Status

TIMED_OUT = "TimedOut"
AGAIN = "AttemptFailed"
"""Name of the Failed state that asks Prefect for one more attempt."""


def final_status_of(state: State) -> FinalStatus | None:
    """What Prefect's state says about the end of a run; None while it has not ended."""
    match state.type:
        case StateType.COMPLETED:
            return FinalStatus.SUCCESS
        case StateType.FAILED:
            return FinalStatus.CANCELED if state.name == TIMED_OUT else FinalStatus.FAIL
        case StateType.CRASHED:
            return FinalStatus.FAIL
        case StateType.CANCELLING | StateType.CANCELLED:
            return FinalStatus.CANCELED
        case _:
            return None


def state_message(state: State) -> str:
    """What a terminal state says about the end, in the words of ``failure_reason``."""
    message = state.message or state.name or ""
    return f"crashed: {message}" if state.is_crashed() else message


def agrees(state: State | None, final: FinalOutcome) -> bool:
    """Whether Prefect shows the flow run as ended in the way that the disk tells."""
    return state is not None and state.is_final() and final_status_of(state) is final.status


def end_state(final: FinalOutcome) -> State:
    """The terminal state for a flow run whose end is on disk and which Prefect shows otherwise."""
    reason = final.failure_reason
    match final.status:
        case FinalStatus.SUCCESS:
            return Completed(message="exit reached")
        case FinalStatus.FAIL:
            return Crashed(message=reason) if reason.startswith("crashed:") else Failed(message=reason)
        case FinalStatus.CANCELED:
            return Cancelled(message=reason)


def to_flow_state(conclusion: Conclusion, *, deadline: bool = False, by_signal: bool = False) -> State:
    """The state that the flow body returns.

    A canceled run returns Failed: the server turns that into CANCELLING where it was asked for a cancel, and then Prefect
    runs ``on_cancellation``. A signal cancels a run that the server knows nothing of, so the body returns CANCELLING itself.
    It never returns Cancelled, for which Prefect runs no hook at all.
    """
    match FinalStatus(conclusion.status):
        case FinalStatus.SUCCESS:
            return Completed(message="exit reached")
        case FinalStatus.FAIL:
            return Failed(message=conclusion.reason)
        case FinalStatus.CANCELED:
            if deadline:
                return Failed(name=TIMED_OUT, message=conclusion.reason)
            return Cancelling(message=conclusion.reason) if by_signal else Failed(message=conclusion.reason)


def to_task_state(outcome: Outcome, *, again: bool = False, canceled: bool = False) -> State:
    """The state of a node's task run. Its data is the outcome, its name the status where Prefect has no word for it."""
    if canceled:
        return Cancelled(message=outcome.failure_reason)
    if again:
        return Failed(name=AGAIN, message=outcome.failure_reason or outcome.status)
    match outcome.status:
        case Status.SUCCESS:
            return Completed(message=outcome.notes or None)
        case Status.FAIL | Status.RETRY:
            return Failed(message=outcome.failure_reason)
        case _:
            return Completed(name=_title(outcome.status), message=outcome.notes or outcome.failure_reason or None)


def _title(status: str) -> str:
    return "".join(part.capitalize() for part in status.replace("-", "_").split("_")) or "Custom"
