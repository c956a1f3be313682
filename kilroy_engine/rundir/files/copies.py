"""Copies files and folders that a stage could touch. Links stay links; pipes, sockets and devices are left out."""

from __future__ import annotations

import fcntl
import os
import shutil
import stat
from collections.abc import Iterable
from pathlib import Path

from kilroy_engine.rundir.files.regular import open_for_writing

_FICLONE = 0x40049409
_CHUNK_BYTES = 1 << 20


def copy_tree(source: Path, target: Path) -> None:
    """Copies the content of the folder ``source`` into ``target``. Other files in ``target`` stay. No link in ``target`` is
    followed.

    Raises:
        OSError: The disk refused.
    """
    if target.is_symlink() or not target.is_dir():
        target.unlink(missing_ok=True)
        target.mkdir()
    with os.scandir(source) as entries:
        found = list(entries)
    for entry in found:
        there = target / entry.name
        if entry.is_dir(follow_symlinks=False):
            copy_tree(Path(entry.path), there)
        else:
            copy_file(Path(entry.path), there)
    shutil.copystat(source, target)


def copy_file(source: Path, target: Path) -> None:
    """Copies one file or link with its times and mode, by shared blocks where the file system can share them (btrfs, xfs).

    Raises:
        OSError: The disk refused.
    """
    kind = source.lstat().st_mode
    if stat.S_ISLNK(kind):
        _clear(target)
        target.symlink_to(source.readlink())
    elif stat.S_ISREG(kind):
        if target.is_symlink() or not target.is_file():
            _clear(target)
        _copy_content(source, target)
        shutil.copystat(source, target)


def size_bytes(paths: Iterable[Path]) -> int:
    """The bytes in files and folders. A link counts nothing, and neither does a file that disappears meanwhile."""
    total = 0
    for path in paths:
        try:
            found = path.lstat()
        except OSError:
            continue
        if stat.S_ISDIR(found.st_mode):
            total += sum(size_bytes(Path(folder, name) for name in names) for folder, _, names in os.walk(path))
        elif not stat.S_ISLNK(found.st_mode):
            total += found.st_size
    return total


def _clear(target: Path) -> None:
    if target.is_dir() and not target.is_symlink():
        shutil.rmtree(target)
    else:
        target.unlink(missing_ok=True)


def _copy_content(source: Path, target: Path) -> None:
    descriptor = os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as read, os.fdopen(open_for_writing(target, os.O_WRONLY | os.O_TRUNC), "wb") as written:
        try:
            fcntl.ioctl(written, _FICLONE, read.fileno())
        except OSError:
            shutil.copyfileobj(read, written, _CHUNK_BYTES)
