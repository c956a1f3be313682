"""What the reconciler decides about a run that nobody holds, from disk and from what Prefect says."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import pytest
from prefect.client.schemas.objects import FlowRun, State, StateType

from kilroy_engine.orchestration.ending.lost import EndIt, Leave, Patience, decide, is_left_over
from kilroy_engine.orchestration.ending.told import Told
from kilroy_engine.orchestration.states import TIMED_OUT, agrees, end_state
from kilroy_engine.rundir.ending.liveness import OwnerPlace, UnendedRun
from kilroy_engine.rundir.files.layout import RunDirectory
from kilroy_engine.rundir.files.records import FinalOutcome
from kilroy_engine.rundir.ownership.ownership import Owner
from kilroy_engine.traversal.outcome import FinalStatus

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
CRASHED = "crashed: gone"
LOST = UnendedRun(
    run=RunDirectory(Path("/runs/r1")),
    owner=Owner(str(uuid4()), 1),
    pid=4711,
    host="here",
    place=OwnerPlace.HERE,
    silent_s=1000,
    heartbeat_age_s=1000,
    waits_for_person=False,
    half_written=False,
)
AWAY = Told(reachable=False)
UNKNOWN = Told(reachable=True)


def told(kind: StateType, *, age_s: float = 1000, name: str | None = None, message: str = "") -> Told:
    state = State(type=kind, name=name, message=message, timestamp=NOW - timedelta(seconds=age_s))
    return Told(reachable=True, flow_run=FlowRun(flow_id=uuid4(), state=state))


@pytest.mark.parametrize("kind", [StateType.RUNNING, StateType.PENDING])
@pytest.mark.parametrize("place", list(OwnerPlace))
def test_a_run_whose_process_is_gone_has_crashed_and_its_reason_says_what_to_do(kind: StateType, place: OwnerPlace) -> None:
    """Prefect still shows it at work: fail, `crashed:`, with the process and the command that goes on."""
    end = decide(replace(LOST, place=place), told(kind), Patience(), at=NOW)
    assert isinstance(end, EndIt)
    assert end.observed.reason.startswith("crashed: the flow process (pid 4711 on here) is gone")
    assert "`kilroy resume r1`" in end.observed.reason


@pytest.mark.parametrize("kind", [StateType.CANCELLING, StateType.CANCELLED])
def test_a_run_that_prefect_cancels_is_canceled(kind: StateType) -> None:
    """The observed state is a cancel, whatever the process had come to."""
    end = decide(LOST, told(kind), Patience(), at=NOW)
    assert isinstance(end, EndIt)
    assert end.observed.status is FinalStatus.CANCELED


@pytest.mark.parametrize(
    ("kind", "name"), [(StateType.PAUSED, "Paused"), (StateType.PAUSED, "Suspended"), (StateType.SCHEDULED, "AwaitingRetry")]
)
def test_paused_suspended_and_scheduled_runs_are_left_alone(kind: StateType, name: str) -> None:
    """They have no process and are not lost: someone resumes them, or they are due."""
    assert isinstance(decide(LOST, told(kind, name=name), Patience(), at=NOW), Leave)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"silent_s": 119.0}, told(StateType.RUNNING)),
        ({}, told(StateType.CANCELLING, age_s=119)),
        ({"place": OwnerPlace.ELSEWHERE, "heartbeat_age_s": 299.0}, told(StateType.RUNNING)),
        ({"place": OwnerPlace.EARLIER_BOOT, "heartbeat_age_s": 299.0}, told(StateType.RUNNING)),
        ({"place": OwnerPlace.ELSEWHERE}, AWAY),
        ({"place": OwnerPlace.ELSEWHERE}, UNKNOWN),
        ({"waits_for_person": True}, AWAY),
    ],
    ids=["grace", "grace of Prefect's state", "heartbeat", "heartbeat after a boot", "no API", "unknown run", "open gate"],
)
def test_a_run_that_may_be_alive_is_left_alone(change: dict[str, object], said: Told) -> None:
    """A sign of life within the grace; an owner elsewhere without a word from Prefect; a gate that only Prefect knows of."""
    assert isinstance(decide(replace(LOST, **change), said, Patience(), at=NOW), Leave)  # type: ignore[arg-type]


@pytest.mark.parametrize("said", [AWAY, UNKNOWN])
@pytest.mark.parametrize("place", [OwnerPlace.HERE, OwnerPlace.EARLIER_BOOT])
def test_a_dead_run_of_this_machine_is_ended_from_disk_alone(place: OwnerPlace, said: Told) -> None:
    """The lock proves the death; no server is needed for that."""
    assert isinstance(decide(replace(LOST, place=place), said, Patience(), at=NOW), EndIt)


def final(status: FinalStatus, reason: str = "") -> FinalOutcome:
    return FinalOutcome(timestamp=NOW, status=status, run_id="r1", failure_reason=reason, crashed=reason == CRASHED)


@pytest.mark.parametrize(
    ("status", "reason", "kind"),
    [
        (FinalStatus.SUCCESS, "", StateType.COMPLETED),
        (FinalStatus.FAIL, "exit status 3", StateType.FAILED),
        (FinalStatus.FAIL, CRASHED, StateType.CRASHED),
        (FinalStatus.CANCELED, "canceled: by kilroy stop", StateType.CANCELLED),
    ],
)
def test_a_stuck_state_becomes_the_one_that_matches_the_disk(status: FinalStatus, reason: str, kind: StateType) -> None:
    """The state that is set is terminal, agrees with final.json, and carries its reason."""
    state = end_state(final(status, reason))
    assert state.type is kind
    assert agrees(state, final(status, reason))
    for other in FinalStatus:
        assert agrees(state, final(other)) == (other is status)


def test_a_run_past_its_deadline_agrees_with_timed_out_and_nothing_unfinished_agrees() -> None:
    """Failed under the name TimedOut is a canceled run; Running and Cancelling are no ends."""
    canceled = final(FinalStatus.CANCELED)
    assert agrees(State(type=StateType.FAILED, name=TIMED_OUT), canceled)
    assert not agrees(State(type=StateType.CANCELLING), canceled)
    assert not agrees(State(type=StateType.RUNNING), final(FinalStatus.FAIL))
    assert not agrees(None, final(FinalStatus.FAIL))


@pytest.mark.parametrize("kind", [StateType.PENDING, StateType.RUNNING])
def test_a_retry_on_its_way_is_not_set_back_to_the_end_before_it(kind: StateType) -> None:
    """An old end, and a state that is younger than the grace: the next start is about to begin. An old state is left over."""
    ended = final(FinalStatus.FAIL, "exit status 3").model_copy(update={"timestamp": NOW - timedelta(hours=1)})
    states = [State(type=kind, timestamp=NOW - timedelta(seconds=age_s)) for age_s in (5, 119, 121)]
    assert [is_left_over(state, ended, Patience(), at=NOW) for state in states] == [False, False, True]
