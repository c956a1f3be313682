"""The lock files of a run directory, which a stage can touch as any other file in it."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager
from pathlib import Path

from kilroy_engine.errors import RunDirectoryError
from kilroy_engine.locks import is_locked, locked
from kilroy_engine.rundir.files.regular import open_file, open_for_writing


def open_lock(path: Path) -> int:
    """A descriptor of the lock's file, made where it is missing.

    Raises:
        RunDirectoryError: the disk refused.
    """
    try:
        return open_for_writing(path, os.O_RDWR)
    except OSError as error:
        raise RunDirectoryError(f"cannot open {path}: {error.strerror}", path=path) from error


def turn(path: Path, *, wait_s: float) -> AbstractContextManager[bool]:
    """Holds the lock on ``path``, waiting up to ``wait_s`` seconds for it; yields whether it was got."""
    return locked(open_lock(path), wait_s=wait_s)


def is_held(path: Path) -> bool:
    """Whether somebody holds the lock on ``path`` now. Looking makes no file."""
    try:
        stream = open_file(path)
    except RunDirectoryError:
        return False  # nobody of us holds what is no file
    if stream is None:
        return False
    with stream:
        return is_locked(stream.fileno())
