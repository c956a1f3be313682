"""A function in a thread of its own, with this thread's contexts, so that a stop or a time limit need not wait for it.

A thread cannot be ended. What can be done is: an exception is raised in its Python code, or its coroutine is canceled; if it is
deep in a library that takes no notice, it is left behind and ends with the process.
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
"""How long a stopped call may take to come back before it is left behind."""


class CallStopped(BaseException):
    """Raised in the thread of a call that nobody waits for. No ``Exception``: a callee must not take it for its own."""


class WaitEnd(Enum):
    """How the wait for a call ended."""

    RETURNED = auto()
    CANCELED = auto()
    TIMED_OUT = auto()


class ThreadedCall:
    """``function`` at work. If it answers with a coroutine, that runs to its end in an event loop of the thread.

    ``value`` and ``error`` hold what came of it once :meth:`wait` says ``RETURNED``.
    """

    def __init__(self, function: Callable[[], Any], *, name: str) -> None:
        self.value: Any = None
        self.error: BaseException | None = None
        self._function = function
        self._done = threading.Event()
        self._coroutine: tuple[asyncio.AbstractEventLoop, asyncio.Task[Any]] | None = None
        self._thread = start_thread(self._run, name=name)

    def wait(self, cancellation: Cancellation, timeout_s: float | None) -> WaitEnd:
        """Waits for the call, the stop or the time limit, whichever comes first."""
        ends = None if timeout_s is None else time.monotonic() + timeout_s
        while not self._done.wait(_TICK_S):
            if cancellation.requested:
                return WaitEnd.CANCELED
            if ends is not None and time.monotonic() >= ends:
                return WaitEnd.TIMED_OUT
        return WaitEnd.RETURNED

    def stop(self, *, grace_s: float = STOP_GRACE_S) -> bool:
        """Asks the call to end and waits a little; False when it is left behind."""
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
        except BaseException as error:  # noqa: BLE001 - whoever waits for the call judges it
            self.error = error
        finally:
            self._done.set()

    async def _await(self, coroutine: Any) -> Any:
        task = asyncio.current_task()
        assert task is not None
        self._coroutine = asyncio.get_running_loop(), task
        return await coroutine
