"""Handles Ctrl-C and SIGTERM of a run that no worker or runner supervises: a signal cancels the run instead of crashing it."""

from __future__ import annotations

import _thread
import signal
import threading
from collections.abc import Generator
from contextlib import contextmanager
from types import FrameType

from kilroy_engine.errors import StopKind
from kilroy_engine.stopping import Cancellation


@contextmanager
def interrupts_cancel(cancellation: Cancellation, *, enabled: bool) -> Generator[None]:
    """Makes SIGINT and SIGTERM request a cancellation for the length of the block.

    A SIGINT after a stop was requested raises KeyboardInterrupt. ``enabled`` is false where a worker or runner supervises the
    run: its SIGTERM must reach Prefect's own handler. Does nothing then, and nothing outside of the main thread, where Python
    allows no signal handlers.
    """
    if not enabled or threading.current_thread() is not threading.main_thread():
        yield
        return

    asked: list[int] = []

    def cancel(number: int, frame: FrameType | None) -> None:
        if asked or cancellation.requested:
            if number == signal.SIGINT:
                raise KeyboardInterrupt
            return
        asked.append(number)
        # The signal may have come while this very thread held a lock of the cancellation, in the middle of a wait for a stop.
        told = f"by signal {signal.Signals(number).name}"
        _thread.start_new_thread(cancellation.request, (StopKind.SIGNAL, told))

    before = {number: signal.signal(number, cancel) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
