"""The progress clock of the stall watchdog."""

from __future__ import annotations

import time

import pytest

from kilroy_engine.errors import StopKind
from kilroy_engine.execution.stall import ProgressClock, stall_reason
from kilroy_engine.stopping import Cancellation, Stop


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> ProgressClock:
    """A clock whose last progress was 100 s ago."""
    clock = ProgressClock()
    began = time.monotonic()
    monkeypatch.setattr("kilroy_engine.execution.stall.time.monotonic", lambda: began + 100)
    return clock


def test_silence_past_the_limit_is_a_stall_and_progress_ends_it(clock: ProgressClock) -> None:
    """Idle for 100 s: stalled for a limit of 60 s, not for one of 200 s; an event or a line of output sets it back."""
    assert clock.stalled_for(60) == pytest.approx(100, abs=1)
    assert clock.stalled_for(200) is None
    clock.tick()
    assert clock.stalled_for(60) is None


def test_a_stage_may_be_silent_until_its_own_limit(clock: ProgressClock) -> None:
    """A stage with a limit of 95 s ends by that (the watchdog waits a little longer); one without is the watchdog's."""
    with clock.working(95):
        assert clock.stalled_for(60) is None
        with clock.working(None):
            assert clock.stalled_for(60) is None, "the other stage may still be silent"
    clock._last -= 100  # pyright: ignore[reportPrivateUsage]
    with clock.working(None):
        assert clock.stalled_for(60) is not None


def test_a_wait_excuses_nobody_who_is_at_work(clock: ProgressClock) -> None:
    """One branch waits for a slot that another one holds, which hangs: a stall. The fan-out around both is no work."""
    with clock.containing(None), clock.expecting_silence():
        assert clock.stalled_for(60) is None
        with clock.working(None):
            assert clock.stalled_for(60) is not None
        clock._last -= 100  # pyright: ignore[reportPrivateUsage]
        with clock.working(500):
            assert clock.stalled_for(60) is None, "until its own limit"
        clock._last -= 100  # pyright: ignore[reportPrivateUsage]
        assert clock.stalled_for(60) is None


def test_waiting_for_a_person_or_a_retry_is_no_stall(clock: ProgressClock) -> None:
    """However long the engine itself waits, the run is not stalled; afterwards the clock begins anew."""
    with clock.expecting_silence():
        assert clock.stalled_for(1) is None
    assert clock.stalled_for(1) is None


@pytest.mark.parametrize(("limit_s", "shown"), [(1, "1s"), (600, "10m0s"), (1200, "20m0s")])
def test_the_reason_is_kilroys(limit_s: float, shown: str) -> None:
    """Kilroy prints the limit as Go prints durations (recorded run 12a)."""
    assert stall_reason(limit_s) == f"stall watchdog timeout after {shown} with no progress"


def test_a_run_that_is_given_up_has_failed_and_one_that_is_canceled_has_not() -> None:
    """The first request stands; a stall is a failure, whatever else asks is a cancel."""
    stalled, canceled = Cancellation(), Cancellation()
    assert stalled.request(StopKind.STALL, "stalled")
    assert not stalled.request(StopKind.PERSON, "by kilroy stop")
    assert (stalled.failed, stalled.reason, stalled.stop) == (True, "stalled", Stop(StopKind.STALL, "stalled"))
    assert canceled.request(StopKind.PERSON, "by kilroy stop")
    assert not canceled.request(StopKind.STALL, "stalled")
    assert (canceled.failed, canceled.reason) == (False, "canceled: by kilroy stop")
