"""Ctrl-C and SIGTERM of a run that nobody supervises."""

from __future__ import annotations

import signal

import pytest
from polling import eventually

from kilroy_engine.errors import StopKind
from kilroy_engine.orchestration.flows.interrupts import interrupts_cancel
from kilroy_engine.stopping import Cancellation


@pytest.mark.timeout(30)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_in_the_middle_of_a_wait_for_a_stop_does_not_hang(number: signal.Signals) -> None:
    """The main thread waits on the cancellation most of the time, and holds its locks for moments of that."""
    cancellation = Cancellation()
    with interrupts_cancel(cancellation, enabled=True):
        with cancellation._event._cond, cancellation._lock:  # pyright: ignore - where a wait and a link are at that moment
            signal.raise_signal(number)
        stop = eventually(lambda: cancellation.stop, within_s=5)
    assert (stop.kind, stop.told) == (StopKind.SIGNAL, f"by signal {number.name}")


def test_a_second_ctrl_c_interrupts() -> None:
    """The first asks the run to stop, the second wants no more patience; a second SIGTERM does not interrupt the end."""
    cancellation = Cancellation()
    with interrupts_cancel(cancellation, enabled=True):
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGTERM)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        eventually(lambda: cancellation.requested, within_s=5)
    assert cancellation.stop is not None
    assert cancellation.stop.told == "by signal SIGINT"


def test_afterwards_signals_are_what_they_were() -> None:
    """The handlers are those of the block alone, and of none where somebody else supervises the run."""
    before = signal.getsignal(signal.SIGTERM)
    with interrupts_cancel(Cancellation(), enabled=False):
        assert signal.getsignal(signal.SIGTERM) is before
    with interrupts_cancel(Cancellation(), enabled=True):
        assert signal.getsignal(signal.SIGTERM) is not before
    assert signal.getsignal(signal.SIGTERM) is before
