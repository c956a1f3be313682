"""Prefect's states and the run's statuses."""

from __future__ import annotations

import pytest
from prefect import State
from prefect.states import Cancelled, Cancelling, Completed, Crashed, Failed, Pending, Running

from kilroy_engine.errors import StopKind
from kilroy_engine.orchestration.states import AGAIN, TIMED_OUT, final_status_of, to_flow_state, to_task_state
from kilroy_engine.rundir.files.records import Conclusion
from kilroy_engine.traversal.outcome import FinalStatus, Outcome, failure, success


@pytest.mark.parametrize(
    ("state", "status"),
    [
        (Completed(), FinalStatus.SUCCESS),
        (Failed(), FinalStatus.FAIL),
        (Failed(name=TIMED_OUT), FinalStatus.CANCELED),
        (Crashed(), FinalStatus.FAIL),
        (Cancelling(), FinalStatus.CANCELED),
        (Cancelled(), FinalStatus.CANCELED),
        (Running(), None),
        (Pending(), None),
    ],
)
def test_prefect_states_translate(state: State, status: FinalStatus | None) -> None:
    """Completed is success, Failed and Crashed fail, a run deadline and both words for a cancel are canceled."""
    assert final_status_of(state) is status


@pytest.mark.parametrize(
    ("status", "stop", "tell_canceling", "type_", "name"),
    [
        (FinalStatus.SUCCESS, None, True, "COMPLETED", "Completed"),
        (FinalStatus.FAIL, StopKind.STALL, True, "FAILED", "Failed"),
        (FinalStatus.CANCELED, StopKind.PREFECT, True, "FAILED", "Failed"),
        (FinalStatus.CANCELED, StopKind.PERSON, False, "FAILED", "Failed"),
        (FinalStatus.CANCELED, StopKind.DEADLINE, True, "FAILED", TIMED_OUT),
        (FinalStatus.CANCELED, StopKind.SIGNAL, True, "CANCELLING", "Cancelling"),
        (FinalStatus.CANCELED, StopKind.PERSON, True, "CANCELLING", "Cancelling"),
    ],
)
def test_the_flow_never_returns_cancelled(
    status: FinalStatus, stop: StopKind | None, tell_canceling: bool, type_: str, name: str
) -> None:
    """For a returned Cancelled Prefect runs no hook, so a canceled run returns Failed or Cancelling."""
    state = to_flow_state(Conclusion(status=status, reason="why", stop=stop), tell_canceling=tell_canceling)

    assert (state.type.value, state.name) == (type_, name)


@pytest.mark.parametrize(
    ("outcome", "type_", "name"),
    [
        (success(), "COMPLETED", "Completed"),
        (failure("why"), "FAILED", "Failed"),
        (Outcome("partial_success"), "COMPLETED", "PartialSuccess"),
        (Outcome("skipped"), "COMPLETED", "Skipped"),
        (Outcome("needs_replan"), "COMPLETED", "NeedsReplan"),
    ],
)
def test_a_task_run_carries_the_status_as_its_states_name(outcome: Outcome, type_: str, name: str) -> None:
    """Prefect's own words where it has them, else the status in the name, which the UI shows as a badge."""
    state = to_task_state(outcome)

    assert (state.type.value, state.name) == (type_, name)


def test_an_attempt_that_is_followed_by_another_is_a_failure_with_a_name_of_its_own() -> None:
    """The retry condition looks at that name."""
    assert to_task_state(failure("why"), again=True).name == AGAIN
