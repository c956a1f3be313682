"""Opens the lock files of a run directory. A stage can touch them like any other file there."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager
from pathlib import Path

from kilroy_engine.errors import RunDirectoryError
from kilroy_engine.locks import is_locked, locked
from kilroy_engine.rundir.files.regular import open_file, open_for_writing


def open_lock(path: Path) -> int:
    """A descriptor of the lock file. The file is made where it is missing.

    Raises:
        RunDirectoryError: The disk refused.
    """
    try:
        return open_for_writing(path, os.O_RDWR)
    except OSError as error:
        raise RunDirectoryError(f"cannot open {path}: {error.strerror}", path=path) from error


def turn(path: Path, *, wait_s: float) -> AbstractContextManager[bool]:
    """Waits up to ``wait_s`` seconds for the lock on ``path`` and holds the lock inside ``with``. Yields whether the wait
    succeeded.
    """
    return locked(open_lock(path), wait_s=wait_s)


def is_held(path: Path) -> bool:
    """Whether a process holds the lock on ``path`` now. A missing lock file is not made."""
    try:
        stream = open_file(path)
    except RunDirectoryError:
        return False  # the engine locks plain files only
    if stream is None:
        return False
    with stream:
        return is_locked(stream.fileno())
