"""Starts threads that see the context variables of the code that starts them.

Prefect keeps the flow run, the task run and the temporary settings in context variables. An ordinary new thread lacks them.
"""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager


def start_thread(work: Callable[[], object], *, name: str, daemon: bool = True) -> threading.Thread:
    """Starts ``work`` in a new thread and returns the thread. At its exit the process does not wait for a ``daemon`` thread."""
    thread = threading.Thread(target=contextvars.copy_context().run, args=(work,), name=name, daemon=daemon)
    thread.start()
    return thread


@contextmanager
def beside(work: Callable[[threading.Event], object], *, name: str, join_s: float | None = 0.0) -> Generator[None]:
    """Runs ``work`` in a thread while the block runs.

    ``work`` gets an event that is set at the end of the block. Then the block waits up to ``join_s`` seconds for the thread to
    end. With ``join_s=None`` the block waits without a limit.
    """
    finished = threading.Event()
    thread = start_thread(lambda: work(finished), name=name)
    try:
        yield
    finally:
        finished.set()
        thread.join(timeout=join_s)
