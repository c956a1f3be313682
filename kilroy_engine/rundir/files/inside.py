"""Paths below a folder that others can change: reads stay inside the folder, and writes go through real folders only."""

from __future__ import annotations

import os
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path

from kilroy_engine.errors import CorruptRecord
from kilroy_engine.rundir.files.regular import is_real_folder, make_folder, read_file


def path_inside(root: Path, name: str | Path) -> Path | None:
    """The real path of ``name`` below ``root``. None where ``name`` leads out of ``root``, by ``..`` or by a link, or is a link
    loop.

    Links that stay below ``root`` are followed. The path need not exist.
    """
    real_root = os.path.realpath(root)
    real = os.path.realpath(Path(real_root, name))
    inside = Path(real).is_relative_to(real_root) and not Path(real).is_symlink()  # realpath leaves a link of a link loop
    return Path(real) if inside else None


def read_inside(root: Path, name: str | Path, *, limit_bytes: int) -> bytes | None:
    """The content of the file ``name`` below ``root``; None where the file does not exist.

    Raises:
        CorruptRecord: ``name`` leads out of ``root``, is no file, or holds more than ``limit_bytes``.
        RunDirectoryError: The disk refused.
    """
    path = path_inside(root, name)
    if path is None:
        raise CorruptRecord(f"{name} leads out of {root}, and only files in there are read", path=Path(root, name))
    return read_file(path, limit_bytes=limit_bytes)


def goes_through_folders(root: Path, relative: Path) -> bool:
    """Whether every folder between ``root`` and ``relative`` exists and is no link. ``relative`` itself is not checked."""
    return ".." not in relative.parts and all(is_real_folder(root / parent) for parent in relative.parents)


def make_folders(root: Path, relative: Path) -> bool:
    """Makes the folder ``relative`` below ``root`` and the folders between them. False where a file or link is in the way.

    Raises:
        RunDirectoryError: The disk refused.
    """
    place = root
    for name in relative.parts:
        place = place / name
        if os.path.lexists(place) and not is_real_folder(place):
            return False
        make_folder(place)
    return True


def make_way_to(root: Path, folder: Path) -> None:
    """Makes ``folder``, which lies below ``root``, and the folders between them. A file or link with such a name is set aside.

    Raises:
        RunDirectoryError: The disk refused.
    """
    place = root
    for name in folder.relative_to(root).parts:
        place = place / name
        make_folder(place)


def real_folders(root: Path, pattern: str) -> Iterator[Path]:
    """The folders below ``root`` that match ``pattern`` (``parallel/*/pass*``), sorted. Links are left out, also on the way."""
    first, _, rest = pattern.strip("/").partition("/")
    try:
        with os.scandir(root) as entries:
            names = sorted(e.name for e in entries if fnmatchcase(e.name, first) and e.is_dir(follow_symlinks=False))
    except OSError:
        return  # ``root`` does not exist or cannot be read
    for name in names:
        if rest:
            yield from real_folders(root / name, rest)
        else:
            yield root / name
