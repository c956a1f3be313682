"""Opens files that a stage can touch: all files of a run directory, and those of the work folder.

A stage runs as the same user and may leave anything under any name: a pipe that blocks the opener, a link to another place, a
device without an end, a folder. The functions here follow no link, never block, and read or write plain files only. A reader
that finds something else raises :class:`CorruptRecord`. A writer renames what has the file's name and removes nothing: the old
name gets ``.aside-`` and some letters added.
"""

from __future__ import annotations

import errno
import os
import secrets
import stat
from pathlib import Path
from typing import BinaryIO

from kilroy_engine.errors import CorruptRecord, RunDirectoryError
from kilroy_engine.limits import RECORD_BYTES, megabytes

_SAFELY = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
_IN_THE_WAY = frozenset({errno.ELOOP, errno.EISDIR, errno.ENXIO, errno.EMLINK, errno.ENODEV})
_ABSENT = frozenset({errno.ENOENT, errno.ENOTDIR})
_TRIES = 3
_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFLNK: "a link",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def kind_at(path: Path) -> str:
    """What is at ``path`` instead of a plain file, for messages: ``a link``. Empty for a plain file and where nothing is."""
    try:
        return _KINDS.get(stat.S_IFMT(path.lstat().st_mode), "")
    except OSError:
        return ""


def open_file(path: Path, *, limit_bytes: int | None = None) -> BinaryIO | None:
    """Opens the plain file at ``path`` for reading; None where nothing is at ``path``.

    Raises:
        CorruptRecord: A folder, link, pipe or device is there, or the file holds more than ``limit_bytes``.
        RunDirectoryError: The disk refused.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | _SAFELY)
    except OSError as error:
        if error.errno in _ABSENT:
            return None
        if kind := kind_at(path):
            raise _no_file(path, kind) from error
        raise RunDirectoryError(f"cannot read {path}: {error.strerror}", path=path) from error
    found = os.fstat(descriptor)
    if stat.S_ISREG(found.st_mode) and (limit_bytes is None or found.st_size <= limit_bytes):
        return os.fdopen(descriptor, "rb")
    os.close(descriptor)
    if limit_bytes is not None and stat.S_ISREG(found.st_mode):
        raise _too_large(path, limit_bytes)
    raise _no_file(path, _KINDS.get(stat.S_IFMT(found.st_mode), "something else"))


def read_file(path: Path, *, limit_bytes: int = RECORD_BYTES) -> bytes | None:
    """The content of the plain file at ``path``; None where nothing is there. Raises as :func:`open_file` does."""
    stream = open_file(path, limit_bytes=limit_bytes)
    if stream is None:
        return None
    try:
        with stream:
            content = stream.read(limit_bytes + 1)
    except OSError as error:
        raise RunDirectoryError(f"cannot read {path}: {error.strerror}", path=path) from error
    if len(content) > limit_bytes:
        raise _too_large(path, limit_bytes)  # it grew meanwhile
    return content


def read_part(path: Path, size_bytes: int, *, end: bool = False) -> bytes:
    """The first or the last ``size_bytes`` of a file. For logs shown to people. Empty where no plain file can be read."""
    try:
        stream = open_file(path)
        if stream is None:
            return b""
        with stream:
            if end:
                stream.seek(max(0, stream.seek(0, os.SEEK_END) - size_bytes))
            return stream.read(size_bytes)
    except (RunDirectoryError, OSError):
        return b""


def open_for_writing(path: Path, flags: int) -> int:
    """A descriptor of the plain file at ``path``. A missing file is made. A folder, link, pipe or device there is set aside.

    Raises:
        OSError: The disk refused.
    """
    for _ in range(_TRIES):
        try:
            descriptor = os.open(path, flags | os.O_CREAT | _SAFELY, 0o666)
        except OSError as error:
            if error.errno not in _IN_THE_WAY or not make_way(path):
                raise
            continue
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            return descriptor
        os.close(descriptor)
        make_way(path)
    raise OSError(errno.EEXIST, "something that is no file comes back again and again", str(path))


def make_way(path: Path) -> bool:
    """Sets aside what is at ``path`` unless it is a plain file. True when something was set aside."""
    if not kind_at(path):
        return False
    set_aside(path)
    return True


def make_folder(path: Path) -> None:
    """Makes the folder where it is missing. A file or link with its name is set aside. The parent folder must exist.

    Raises:
        RunDirectoryError: The disk refused.
    """
    try:
        if not is_real_folder(path):
            if os.path.lexists(path):
                set_aside(path)
            path.mkdir()
    except FileExistsError:
        pass  # another process made the folder meanwhile
    except OSError as error:
        raise RunDirectoryError(f"cannot make {path}: {error.strerror}", path=path) from error


def is_real_folder(path: Path) -> bool:
    """Whether ``path`` is a folder and no link to a folder."""
    try:
        return stat.S_ISDIR(path.lstat().st_mode)
    except OSError:
        return False


def set_aside(path: Path, meant: Path | None = None) -> Path:
    """Renames what is at ``path`` and returns the new path in the same folder. The new name begins with the name of ``meant``,
    or of ``path``. A link is renamed, not its target.
    """
    kept = path.with_name(f"{(meant or path).name}.aside-{secrets.token_hex(3)}")
    path.rename(kept)
    return kept


def remove(path: Path) -> None:
    """Removes the file or link at ``path``, if there is one. A folder is set aside."""
    try:
        path.unlink()
    except FileNotFoundError:
        pass
    except (IsADirectoryError, PermissionError):
        if not make_way(path):
            raise


def _no_file(path: Path, kind: str) -> CorruptRecord:
    return CorruptRecord(f"{path} is {kind}, and a file is expected there; remove it or put the file back", path=path)


def _too_large(path: Path, limit_bytes: int) -> CorruptRecord:
    return CorruptRecord(
        f"{path} holds more than {megabytes(limit_bytes)}, which is too much for it; put the file back", path=path
    )
