"""Threads that work with the contexts of whoever starts them.

Prefect keeps the flow run, the task run and the temporary settings in context variables, and a new thread has none of them.
"""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager


def start_thread(work: Callable[[], object], *, name: str, daemon: bool = True) -> threading.Thread:
    """Starts ``work`` in a thread. The process does not wait at its exit for one that is a ``daemon``."""
    thread = threading.Thread(target=contextvars.copy_context().run, args=(work,), name=name, daemon=daemon)
    thread.start()
    return thread


@contextmanager
def beside(work: Callable[[threading.Event], object], *, name: str, join_s: float | None = 0.0) -> Generator[None]:
    """Does ``work`` in a thread for the length of a block.

    ``work`` is called with an event that is set at the block's end. The block then waits up to ``join_s`` seconds for the
    thread, or for as long as it takes where that is None.
    """
    finished = threading.Event()
    thread = start_thread(lambda: work(finished), name=name)
    try:
        yield
    finally:
        finished.set()
        thread.join(timeout=join_s)
