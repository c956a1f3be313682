"""Copies of folders: by shared blocks where the file system can (btrfs, xfs), byte by byte elsewhere."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterable
from pathlib import Path

from kilroy_engine.errors import WorkspaceError

DEFAULT_COPY_MAX_BYTES = 1 << 30
_FICLONE = 0x40049409


def size_bytes(paths: Iterable[Path]) -> int:
    """Bytes in files and folders, links not followed. What goes away meanwhile counts nothing."""
    total = 0
    for path in paths:
        if path.is_dir() and not path.is_symlink():
            for folder, _, names in os.walk(path):
                total += sum(_size(Path(folder, name)) for name in names)
        else:
            total += _size(path)
    return total


def copy_folder(source: Path, target: Path, *, max_bytes: int) -> None:
    """A copy of ``source`` with everything in it; links stay links. An earlier, perhaps unfinished copy is replaced.

    Raises:
        WorkspaceError: It holds more than ``max_bytes``, or the disk refused.
    """
    size = size_bytes([source])
    if size > max_bytes:
        raise WorkspaceError(
            f"{source} holds {size} bytes, and each branch would get a copy (branch_copy_max_bytes is {max_bytes}); "
            "raise that on the fan-out, set branch_workspace=shared, or run on a git repository"
        )
    try:
        if target.exists():
            shutil.rmtree(target)
        shutil.copytree(source, target, symlinks=True, copy_function=_copy_file)
    except (OSError, shutil.Error) as error:
        raise WorkspaceError(f"cannot copy {source} to {target}: {error}") from error


def copy_entries(source: Path, target: Path, names: Iterable[str]) -> None:
    """Copies files and folders, given by names relative to ``source``, over those in ``target``.

    Raises:
        WorkspaceError: The disk refused.
    """
    try:
        for name in names:
            here, there = source / name, target / name
            if here.is_dir() and not here.is_symlink():
                shutil.copytree(here, there, symlinks=True, copy_function=_copy_file, dirs_exist_ok=True)
            elif here.exists() or here.is_symlink():
                there.parent.mkdir(parents=True, exist_ok=True)
                _copy_file(str(here), str(there))
    except (OSError, shutil.Error) as error:
        raise WorkspaceError(f"cannot copy from {source} to {target}: {error}") from error


def mirror_folder(source: Path, target: Path) -> None:
    """Makes ``target`` hold what ``source`` holds, and nothing else. May be repeated after it was interrupted.

    Raises:
        WorkspaceError: The disk refused.
    """
    try:
        _mirror(source, target)
    except (OSError, shutil.Error) as error:
        raise WorkspaceError(f"cannot bring {source} over to {target}: {error}") from error


def _mirror(source: Path, target: Path) -> None:
    wanted = {entry.name: entry for entry in os.scandir(source)}
    for entry in os.scandir(target):
        of_source = wanted.get(entry.name)
        if of_source is None or _kind(of_source) != _kind(entry):
            if entry.is_dir(follow_symlinks=False):
                shutil.rmtree(entry.path)
            else:
                Path(entry.path).unlink()
    for name, entry in wanted.items():
        there = target / name
        if entry.is_dir(follow_symlinks=False):
            there.mkdir(exist_ok=True)
            _mirror(Path(entry.path), there)
            shutil.copystat(entry.path, there)
        elif entry.is_symlink() or not _same_file(entry, there):
            _copy_file(entry.path, str(there))


def _kind(entry: os.DirEntry[str]) -> tuple[bool, bool]:
    return entry.is_symlink(), entry.is_dir(follow_symlinks=False)


def _same_file(entry: os.DirEntry[str], there: Path) -> bool:
    try:
        before, after = entry.stat(follow_symlinks=False), there.stat(follow_symlinks=False)
    except FileNotFoundError:
        return False
    return (before.st_size, before.st_mtime_ns, before.st_mode) == (after.st_size, after.st_mtime_ns, after.st_mode)


def _copy_file(source: str, target: str) -> None:
    """One file or link with its times and mode. A pipe or socket is left out: nothing could be read from it."""
    given, made = Path(source), Path(target)
    if made.is_symlink():
        made.unlink()
    if given.is_symlink():
        made.unlink(missing_ok=True)
        made.symlink_to(given.readlink())
    elif given.is_file():
        with given.open("rb") as read, made.open("wb") as written:
            try:
                fcntl.ioctl(written, _FICLONE, read.fileno())
            except OSError:
                shutil.copyfileobj(read, written, 1 << 20)
        shutil.copystat(given, made)


def _size(path: Path) -> int:
    try:
        return path.lstat().st_size
    except OSError:
        return 0
