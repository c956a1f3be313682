"""Calls in a thread of their own: their values, their errors, and that nothing waits for them longer than it must."""

from __future__ import annotations

import asyncio
import contextvars
import threading
import time

import pytest

from kilroy_engine.errors import StopKind
from kilroy_engine.orchestration.tasks.threaded import CallStopped, ThreadedCall, WaitEnd
from kilroy_engine.stopping import Cancellation


def test_a_value_comes_back() -> None:
    """Of a plain function and of a coroutine, which gets a loop of its own."""

    async def twice(n: int) -> int:
        await asyncio.sleep(0)
        return 2 * n

    for function in (lambda: 6, lambda: twice(3)):
        call = ThreadedCall(function, name="call")
        assert call.wait(Cancellation(), 10) is WaitEnd.RETURNED
        assert (call.value, call.error) == (6, None)


@pytest.mark.parametrize("error", [ValueError("no"), SystemExit(3), KeyboardInterrupt()])
def test_an_error_comes_back_whatever_it_is(error: BaseException) -> None:
    """The thread never prints it and never ends the process."""

    def fails() -> None:
        raise error

    call = ThreadedCall(fails, name="call")

    assert call.wait(Cancellation(), 10) is WaitEnd.RETURNED
    assert call.error is error


def test_the_call_sees_the_callers_contexts() -> None:
    """Prefect keeps the run at work in a context variable."""
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="nobody's")
    variable.set("the caller's")

    call = ThreadedCall(variable.get, name="call")
    call.wait(Cancellation(), 10)

    assert call.value == "the caller's"


def test_a_time_limit_ends_the_wait() -> None:
    """And python code in the thread is stopped, even a loop that catches every exception."""

    def spins() -> None:
        while True:
            try:
                time.sleep(0.01)
            except Exception:  # noqa: BLE001  # a callee like this must be stopped too
                pass

    call = ThreadedCall(spins, name="call")

    assert call.wait(Cancellation(), 0.2) is WaitEnd.TIMED_OUT
    assert call.stop()
    assert isinstance(call.error, CallStopped)


def test_a_stop_request_cancels_a_coroutine_where_it_waits() -> None:
    """Its ``finally`` blocks run."""
    waiting, cleaned = threading.Event(), threading.Event()

    async def waits() -> None:
        try:
            waiting.set()
            await asyncio.sleep(3600)
        finally:
            cleaned.set()

    cancellation = Cancellation()
    call = ThreadedCall(waits, name="call")
    assert waiting.wait(10)
    cancellation.request(StopKind.PERSON, "by test")

    assert call.wait(cancellation, None) is WaitEnd.CANCELED
    assert call.stop()
    assert cleaned.is_set()
    assert isinstance(call.error, asyncio.CancelledError)


def test_a_call_that_cannot_be_stopped_is_left_behind() -> None:
    """Deep in a library nothing reaches it: the wait is over in time all the same."""
    release = threading.Event()
    blocked = threading.Lock()
    blocked.acquire()
    call = ThreadedCall(lambda: (blocked.acquire(), release.set()), name="call")

    began = time.monotonic()
    assert call.wait(Cancellation(), 0.1) is WaitEnd.TIMED_OUT
    assert not call.stop(grace_s=0.2)
    assert time.monotonic() - began < 5
    blocked.release()
