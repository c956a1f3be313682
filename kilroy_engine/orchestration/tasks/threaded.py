"""Calls a function in a thread of its own, with the caller's context variables, so that a stop need not wait for the function.

Python cannot end a thread. A stop raises an exception in the thread's Python code, or cancels the thread's coroutine. A thread
inside a library that ignores both is left behind and ends with the process.
"""

from __future__ import annotations

import asyncio
import ctypes
import inspect
import threading
import time
from collections.abc import Callable
from enum import Enum, auto
from typing import Any

from kilroy_engine.stopping import Cancellation
from kilroy_engine.threads import start_thread

_TICK_S = 0.1
STOP_GRACE_S = 3.0
"""How long a stopped call may take to return before its thread is left behind."""


class CallStopped(BaseException):
    """Raised in the thread of a call that was stopped. No ``Exception``, so that the callee's ``except`` does not catch it."""


class WaitEnd(Enum):
    """How the wait for a call ended."""

    RETURNED = auto()
    CANCELED = auto()
    TIMED_OUT = auto()


class ThreadedCall:
    """A call of ``function`` in a thread, which begins at once. A returned coroutine runs in an event loop of the thread.

    Once :meth:`wait` returns ``RETURNED``, ``value`` holds the result, or ``error`` the exception.
    """

    def __init__(self, function: Callable[[], Any], *, name: str) -> None:
        self.value: Any = None
        self.error: BaseException | None = None
        self._function = function
        self._done = threading.Event()
        self._coroutine: tuple[asyncio.AbstractEventLoop, asyncio.Task[Any]] | None = None
        self._thread = start_thread(self._run, name=name)

    def wait(self, cancellation: Cancellation, timeout_s: float | None) -> WaitEnd:
        """Waits for the call's end, for a stop of the run or for the time limit, whichever comes first."""
        ends = None if timeout_s is None else time.monotonic() + timeout_s
        while not self._done.wait(_TICK_S):
            if cancellation.requested:
                return WaitEnd.CANCELED
            if ends is not None and time.monotonic() >= ends:
                return WaitEnd.TIMED_OUT
        return WaitEnd.RETURNED

    def stop(self, *, grace_s: float = STOP_GRACE_S) -> bool:
        """Stops the call and waits up to ``grace_s`` seconds. False when the call has not returned by then."""
        if self._coroutine is not None:
            loop, task = self._coroutine
            try:
                loop.call_soon_threadsafe(task.cancel)
            except RuntimeError:
                pass  # the loop has closed meanwhile: the call is over
        elif self._thread.ident is not None and not self._done.is_set():
            ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(self._thread.ident), ctypes.py_object(CallStopped))
        return self._done.wait(grace_s)

    def _run(self) -> None:
        try:
            value = self._function()
            self.value = asyncio.run(self._await(value)) if inspect.iscoroutine(value) else value
        except BaseException as error:  # noqa: BLE001 - the caller of wait() judges the error
            self.error = error
        finally:
            self._done.set()

    async def _await(self, coroutine: Any) -> Any:
        task = asyncio.current_task()
        assert task is not None
        self._coroutine = asyncio.get_running_loop(), task
        return await coroutine
