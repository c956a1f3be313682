"""Locks that last as long as a step: ``flock`` on an empty file, between processes and between threads."""

from __future__ import annotations

import fcntl
import os
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from kilroy_engine.errors import RunDirectoryError
from kilroy_engine.rundir.files.regular import open_file, open_for_writing

_POLL_S = 0.02


class FileLock:
    """An exclusive lock on ``path``. A thread that holds it may take it again. The kernel releases it when a process dies."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._threads = threading.RLock()
        self._depth = 0
        self._descriptor = -1
        self._pid = 0

    @contextmanager
    def held(self) -> Generator[None]:
        """Waits for the lock and holds it."""
        with self._threads:
            if self._depth == 0:
                fcntl.flock(self._open(), fcntl.LOCK_EX)
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

    def _open(self) -> int:
        # A forked child shares its parent's lock through the inherited descriptor, so it needs one of its own.
        if self._descriptor < 0 or self._pid != os.getpid():
            self._descriptor = open_lock(self._path)
            self._pid = os.getpid()
        return self._descriptor


@contextmanager
def turn(path: Path, *, wait_s: float) -> Generator[bool]:
    """Holds the lock on ``path``, waiting up to ``wait_s`` seconds for it; yields whether it was got."""
    descriptor = open_lock(path)
    try:
        yield _try_until(descriptor, time.monotonic() + wait_s)
    finally:
        os.close(descriptor)


def is_held(path: Path) -> bool:
    """Whether somebody holds the lock on ``path`` now. Looking makes no file."""
    try:
        stream = open_file(path)
    except RunDirectoryError:
        return False  # nobody of us holds what is no file
    if stream is None:
        return False
    descriptor = stream.fileno()
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    else:
        return False
    finally:
        stream.close()


def open_lock(path: Path) -> int:
    """A descriptor of the lock's file, made where it is missing.

    Raises:
        RunDirectoryError: the disk refused.
    """
    try:
        return open_for_writing(path, os.O_RDWR)
    except OSError as error:
        raise RunDirectoryError(f"cannot open {path}: {error.strerror}", path=path) from error


def _try_until(descriptor: int, deadline: float) -> bool:
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                return False
            time.sleep(_POLL_S)
        else:
            return True
