"""Translates between Prefect's states and Kilroy's statuses. No other module does.

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
    """The final status that Prefect's state means; None where the state is no end."""
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
    """Prefect's state as evidence of how a run ended. A cancel gets no reason: the request on disk says who asked."""
    status, message = final_status_of(state), state.message or state.name or ""
    if status is FinalStatus.CANCELED:
        return Observed(status)
    return Observed(status, f"crashed: {message}", crashed=True) if state.is_crashed() else Observed(status, message)


def agrees(state: State | None, final: FinalOutcome) -> bool:
    """Whether ``state`` is terminal and has the status of ``final``, the end on disk."""
    return state is not None and state.is_final() and final_status_of(state) is final.status


def end_state(final: FinalOutcome) -> State:
    """The terminal Prefect state for the end on disk. Used where Prefect shows the flow run in another state."""
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

    A run that was canceled in Prefect returns Failed: the server turns Failed into CANCELLING, and then Prefect runs
    ``on_cancellation``. The server knows nothing of any other cancel, so with ``tell_canceling`` the body returns CANCELLING.
    The body never returns Cancelled, because Prefect runs no hook for a returned Cancelled.
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
    """Holds a task run's returned value as its state's data, where Prefect cannot look into the value.

    Prefect searches dataclasses: a text from one task run's result that is in another's arguments counts as a dependency.
    Prefect also writes the data of a failed state into log lines.
    """

    def __init__(self, value: object) -> None:
        self._value: object = value

    def take(self) -> object:
        """The value at the first call, None afterwards. Prefect keeps a stage's state until its branch is over."""
        taken, self._value = self._value, None
        return taken


def to_task_state(outcome: Outcome, *, returned: object = None, again: bool = False, canceled: bool = False) -> State:
    """The state of a task run with this outcome. Its name is the outcome's status where Prefect has no state of that name.

    ``again`` asks Prefect for one more attempt, ``canceled`` gives Cancelled. The state's data holds ``returned``, which
    :func:`take_returned` reads in this process, or after a worker of the pool has sent the state back.
    """
    state = _task_state(outcome, again=again, canceled=canceled)
    if returned is not None:
        state.data = _Returned(returned)
    return state


def take_returned(state: State) -> object:
    """The value that :func:`to_task_state` put into the state. None at a second call, and for any other state."""
    data: object = getattr(state.data, "result", state.data)  # Prefect wraps a task's return value in a record
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
