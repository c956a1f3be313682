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

from kilroy_engine.errors import StopKind
from kilroy_engine.rundir.ending.which_end_wins import Observed
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


def observed_in(state: State) -> Observed:
    """What Prefect's state says about the end of a run. A cancel has no reason of Prefect's own: whoever asked is on disk."""
    status, message = final_status_of(state), state.message or state.name or ""
    if status is FinalStatus.CANCELED:
        return Observed(status)
    return Observed(status, f"crashed: {message}", crashed=True) if state.is_crashed() else Observed(status, message)


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
            return Crashed(message=reason) if final.crashed else Failed(message=reason)
        case FinalStatus.CANCELED:
            return Cancelled(message=reason)


def to_flow_state(conclusion: Conclusion, *, tell_canceling: bool = False) -> State:
    """The state that the flow body returns.

    A canceled run returns Failed: the server turns that into CANCELLING where it was asked for a cancel, and then Prefect
    runs ``on_cancellation``. Of any other cancel the server knows nothing, so with ``tell_canceling`` the body returns
    CANCELLING itself. It never returns Cancelled, for which Prefect runs no hook at all.
    """
    match FinalStatus(conclusion.status):
        case FinalStatus.SUCCESS:
            return Completed(message="exit reached")
        case FinalStatus.FAIL:
            return Failed(message=conclusion.reason)
        case FinalStatus.CANCELED:
            if conclusion.stop is StopKind.DEADLINE:
                return Failed(name=TIMED_OUT, message=conclusion.reason)
            told = conclusion.stop is StopKind.PREFECT or not tell_canceling
            return Failed(message=conclusion.reason) if told else Cancelling(message=conclusion.reason)


class _Returned:
    """What a task run returns beside its state. Prefect looks through dataclasses and takes a text that it has seen in one for
    a sign of where another task run got it from; of a failed state's data it writes all into log lines."""

    def __init__(self, value: object) -> None:
        self._value: object = value

    def take(self) -> object:
        """The value, once: Prefect keeps what a stage of a branch has returned until the branch is over."""
        taken, self._value = self._value, None
        return taken


def to_task_state(outcome: Outcome, *, returned: object = None, again: bool = False, canceled: bool = False) -> State:
    """The state of a task run that came to ``outcome``; its name is the status where Prefect has no word for it.

    Its data holds ``returned``, which stays in this process, or goes back from a worker of the pool: see
    :func:`take_returned`.
    """
    state = _task_state(outcome, again=again, canceled=canceled)
    if returned is not None:
        state.data = _Returned(returned)
    return state


def take_returned(state: State) -> object:
    """What a task run returned by :func:`to_task_state`, for the first who asks; None where it ended otherwise."""
    data: object = getattr(state.data, "result", state.data)  # Prefect puts what a task returns into a record
    return data.take() if isinstance(data, _Returned) else None


def _task_state(outcome: Outcome, *, again: bool, canceled: bool) -> State:
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
