"""Writes files that are whole or absent: a temporary file in the same folder, then a rename.

The caller chooses what survives a power cut. With ``named`` (final.json, the records of ownership and end) the new content
survives as soon as the call returned: the file is flushed before the rename, the folder after the rename. With ``durable``
(checkpoint.json) either the new or the previous content survives whole: only the file is flushed, which costs half as much.
With neither (status.json, and everything that can be written again from other files) every process sees a whole file, and a
power cut may lose it.

Files get the mode that the umask allows, so that group tools and archives can read them (Kilroy's atomic files are 0600).
"""

from __future__ import annotations

import ctypes
import os
import secrets
import sys
from pathlib import Path

from kilroy_engine.errors import RunDirectoryError
from kilroy_engine.events.encoding import indented, utf8
from kilroy_engine.rundir.files.failpoints import failpoint
from kilroy_engine.rundir.files.regular import make_way, open_for_writing, set_aside

TEMPORARY_PREFIX = ".tmp-"
"""A file with this prefix is being written or was left behind by a crash. No reader opens such a file."""

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2


def _load_renameat2() -> ctypes._NamedFuncPointer | None:  # type: ignore[reportPrivateUsage]  # the only name ctypes has for it
    if sys.platform != "linux":
        return None
    return getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)


_renameat2 = _load_renameat2()


def write_json(path: Path, value: object, *, durable: bool = True, named: bool = False) -> None:
    """Writes ``value`` as JSON with a two-space indent and no newline at the end. ``named`` includes ``durable``.

    Raises:
        RunDirectoryError: ``value`` has no JSON form, or the disk refused.
    """
    try:
        content = indented(value)
    except (TypeError, ValueError) as error:
        raise RunDirectoryError(f"cannot write {path}: {error}", path=path) from error
    write_bytes(path, content, durable=durable, named=named)


def write_text(path: Path, text: str, *, durable: bool = False) -> None:
    """Writes ``text`` as UTF-8 without changing newlines. Raises as :func:`write_bytes` does."""
    write_bytes(path, utf8(text), durable=durable)


def write_bytes(path: Path, content: bytes, *, durable: bool = False, named: bool = False) -> None:
    """Replaces the file at ``path``. The folder must exist.

    Raises:
        RunDirectoryError: The disk refused.
    """
    failpoint(path.name, "before")
    temporary = path.with_name(f"{TEMPORARY_PREFIX}{secrets.token_hex(4)}-{path.name}")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        try:
            write_all(descriptor, content)
            if durable or named:
                os.fsync(descriptor)
        finally:
            os.close(descriptor)
        failpoint(path.name, "rename")
        replace_quickly(temporary, path)
        if named:
            sync_folder(path.parent)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise RunDirectoryError(f"cannot write {path}: {error.strerror}", path=path) from error
    failpoint(path.name, "after")


def write_all(descriptor: int, content: bytes) -> None:
    """Writes all of ``content`` to the descriptor. The kernel may take a large buffer in several parts."""
    view = memoryview(content)
    while view:
        view = view[os.write(descriptor, view) :]


def sync_folder(folder: Path) -> None:
    """Flushes the folder's entries, so that a rename in it survives a power cut."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def replace_quickly(temporary: Path, path: Path) -> None:
    """Renames ``temporary`` to ``path`` without waiting for the disk. A reader finds either the old or the new file.

    ext4 flushes the new file when a plain rename replaces an old one (``auto_da_alloc``): 0.3 ms. Exchanging the two names and
    then removing the old file is as atomic and takes a fifth of that time.
    """
    if _renameat2 is not None and _renameat2(
        _AT_FDCWD, os.fsencode(temporary), _AT_FDCWD, os.fsencode(path), _RENAME_EXCHANGE
    ) == 0:  # fmt: skip
        _drop_replaced(temporary, path)
        return
    # The old file does not exist, or the file system has no exchange (ENOENT, EINVAL): the plain rename works, or raises.
    make_way(path)
    temporary.replace(path)


def _drop_replaced(temporary: Path, path: Path) -> None:
    """Removes what ``path`` named before the exchange. A folder is set aside."""
    try:
        temporary.unlink()
    except (IsADirectoryError, PermissionError):
        set_aside(temporary, path)


def append_whole(path: Path, content: bytes) -> None:
    """Appends ``content`` to the file on an ``O_APPEND`` descriptor. For ``run.log``, which no other file depends on.

    Raises:
        OSError: The disk refused.
    """
    failpoint(path.name, "before")
    descriptor = open_for_writing(path, os.O_WRONLY | os.O_APPEND)
    try:
        write_all(descriptor, content)
    finally:
        os.close(descriptor)


def is_temporary(path: Path) -> bool:
    """Whether the file is being written or was left behind by a crash."""
    return path.name.startswith(TEMPORARY_PREFIX)
