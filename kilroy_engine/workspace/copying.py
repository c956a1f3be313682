"""Copies folders: with shared blocks where the file system supports them (btrfs, xfs), byte by byte elsewhere."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterable
from pathlib import Path

from kilroy_engine.errors import RunDirectoryError, WorkspaceError
from kilroy_engine.rundir.files.copies import copy_file, copy_tree, size_bytes
from kilroy_engine.rundir.files.inside import make_folders

DEFAULT_COPY_MAX_BYTES = 1 << 30


def copy_folder(source: Path, target: Path, *, max_bytes: int) -> None:
    """Copies ``source`` with everything in it to ``target``. Links stay links. An earlier, perhaps unfinished copy at
    ``target`` is replaced.

    Raises:
        WorkspaceError: ``source`` holds more than ``max_bytes``, or the disk refused.
    """
    size = size_bytes([source])
    if size > max_bytes:
        raise WorkspaceError(
            f"{source} holds {size} bytes, and each branch would get a copy (branch_copy_max_bytes is {max_bytes}); "
            "raise that on the fan-out, set branch_workspace=shared, or run on a git repository"
        )
    try:
        if target.exists() and not target.is_symlink():
            shutil.rmtree(target)
        copy_tree(source, target)
    except OSError as error:
        raise WorkspaceError(f"cannot copy {source} to {target}: {error}") from error


def copy_entries(source: Path, target: Path, names: Iterable[str]) -> None:
    """Copies files and folders over those in ``target``. ``names`` are paths relative to ``source``.

    An entry whose folder in ``target`` is reached through a link is left out.

    Raises:
        WorkspaceError: The disk refused.
    """
    try:
        for name in names:
            here, there = source / name, target / name
            if not os.path.lexists(here) or not make_folders(target, Path(name).parent):
                continue
            if here.is_dir() and not here.is_symlink():
                copy_tree(here, there)
            else:
                copy_file(here, there)
    except (OSError, RunDirectoryError) as error:
        raise WorkspaceError(f"cannot copy from {source} to {target}: {error}") from error


def mirror_folder(source: Path, target: Path) -> None:
    """Makes the content of ``target`` equal to that of ``source``. Can be called again after an interruption.

    Raises:
        WorkspaceError: The disk refused.
    """
    try:
        _mirror(source, target)
    except OSError as error:
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
            copy_file(Path(entry.path), there)


def _kind(entry: os.DirEntry[str]) -> int:
    return stat.S_IFMT(entry.stat(follow_symlinks=False).st_mode)


def _same_file(entry: os.DirEntry[str], there: Path) -> bool:
    try:
        before, after = entry.stat(follow_symlinks=False), there.stat(follow_symlinks=False)
    except FileNotFoundError:
        return False
    return (before.st_size, before.st_mtime_ns, before.st_mode) == (after.st_size, after.st_mtime_ns, after.st_mode)
