"""Locks between processes: ``flock`` on a file that the caller has opened.

A lock belongs to the open file: a process that inherits the descriptor shares the lock. Unless it is unlocked, the lock ends
when the last of these descriptors is closed, as the kernel does for a dead process.
"""

from __future__ import annotations

import fcntl
import os
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager

_POLL_S = 0.02


def lock(descriptor: int) -> None:
    """Waits for the exclusive lock on the open file, without a time limit.

    Raises:
        OSError: The file system does not support ``flock``.
    """
    fcntl.flock(descriptor, fcntl.LOCK_EX)


def try_lock(descriptor: int, *, wait_s: float = 0.0) -> bool:
    """Takes the lock if it is free within ``wait_s`` seconds. Returns whether it was taken. Raises as :func:`lock` does."""
    deadline = time.monotonic() + wait_s
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                return False
            time.sleep(_POLL_S)
        else:
            return True


def is_locked(descriptor: int) -> bool:
    """Whether another open file holds the exclusive lock now. If not, ``descriptor`` holds a shared lock until it is closed."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    return False


@contextmanager
def locked(descriptor: int, *, wait_s: float = 0.0) -> Generator[bool]:
    """Calls :func:`try_lock` and yields whether the lock was taken. Closes the descriptor at the end of the block."""
    try:
        yield try_lock(descriptor, wait_s=wait_s)
    finally:
        # Not LOCK_UN: that would also unlock a process that inherited the descriptor.
        os.close(descriptor)


class FileLock:
    """A lock that threads and processes take often, each time for some milliseconds.

    A thread that holds the lock may take it again. ``opened`` opens the lock's file and returns the descriptor. It is called
    when the lock is first taken in a process, and after :meth:`close`.
    """

    def __init__(self, opened: Callable[[], int]) -> None:
        self._opened = opened
        self._threads = threading.RLock()
        self._depth = 0
        self._descriptor = -1
        self._pid = 0

    @contextmanager
    def held(self) -> Generator[None]:
        """Waits for the lock and holds it until the end of the block."""
        with self._threads:
            if self._depth == 0:
                lock(self._own_descriptor())
            self._depth += 1
            try:
                yield
            finally:
                self._depth -= 1
                if self._depth == 0:
                    fcntl.flock(self._descriptor, fcntl.LOCK_UN)

    def close(self) -> None:
        """Closes the descriptor, unless this thread holds the lock. The next :meth:`held` opens the file again."""
        with self._threads:
            if self._descriptor >= 0 and self._depth == 0:
                os.close(self._descriptor)
                self._descriptor = -1

    def _own_descriptor(self) -> int:
        # A forked child would share its parent's lock through the inherited descriptor, so it opens the file itself.
        if self._descriptor < 0 or self._pid != os.getpid():
            self._descriptor = self._opened()
            self._pid = os.getpid()
        return self._descriptor
