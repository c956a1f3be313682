"""Locks between processes: ``flock`` on a file that the caller has opened, in whatever way that file may be trusted.

A lock belongs to the open file: whoever inherits the descriptor shares it, and it ends with the last one of them, at the latest
when the kernel clears away a dead process. Closing the descriptor gives it back.
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
    """Waits for the lock.

    Raises:
        OSError: The file system knows no such locks.
    """
    fcntl.flock(descriptor, fcntl.LOCK_EX)


def try_lock(descriptor: int, *, wait_s: float = 0.0) -> bool:
    """Takes the lock if it is free within ``wait_s`` seconds; whether it was taken. Raises as :func:`lock` does."""
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
    """Whether somebody holds the lock now. To look, the lock is shared for microseconds, until the descriptor is closed."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    return False


@contextmanager
def locked(descriptor: int, *, wait_s: float = 0.0) -> Generator[bool]:
    """Does :func:`try_lock` for the length of a block, and closes the descriptor at its end. Yields whether it was taken."""
    try:
        yield try_lock(descriptor, wait_s=wait_s)
    finally:
        # Not LOCK_UN: that would take the lock from a process that inherited the descriptor, too.
        os.close(descriptor)


class FileLock:
    """A lock that is taken again and again, for steps of milliseconds, by any thread of any process.

    A thread that holds it may take it again. ``opened`` makes a descriptor of the lock's file, when it is first wanted.
    """

    def __init__(self, opened: Callable[[], int]) -> None:
        self._opened = opened
        self._threads = threading.RLock()
        self._depth = 0
        self._descriptor = -1
        self._pid = 0

    @contextmanager
    def held(self) -> Generator[None]:
        """Waits for the lock and holds it."""
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
        """Gives the descriptor back; the next use opens it again."""
        with self._threads:
            if self._descriptor >= 0 and self._depth == 0:
                os.close(self._descriptor)
                self._descriptor = -1

    def _own_descriptor(self) -> int:
        # A forked child shares its parent's lock through the inherited descriptor, so it needs one of its own.
        if self._descriptor < 0 or self._pid != os.getpid():
            self._descriptor = self._opened()
            self._pid = os.getpid()
        return self._descriptor
