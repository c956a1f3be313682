"""Files that are whole or absent: a temporary file in the same folder, then a rename.

What survives a power cut is asked for by the caller. ``named`` (final.json and the records of ownership and end): the new
content, once the call returned; the file is flushed before the rename and its folder after it. ``durable`` (checkpoint.json):
a whole content, the new one or the one before; only the file is flushed, which is half of the cost. Neither (status.json,
live.json and everything that can be told again from other files): whole for every process, a power cut may lose it.

All get the mode that the umask allows (Kilroy's atomic files are 0600): group tools and archives can read them.
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
"""Files with this prefix are half-written or left behind by a crash; nobody reads them."""

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
        RunDirectoryError: the value has no JSON form, or the disk refused.
    """
    try:
        content = indented(value)
    except (TypeError, ValueError) as error:
        raise RunDirectoryError(f"cannot write {path}: {error}", path=path) from error
    write_bytes(path, content, durable=durable, named=named)


def write_text(path: Path, text: str, *, durable: bool = False) -> None:
    """Writes ``text`` as UTF-8, newlines as they are."""
    write_bytes(path, utf8(text), durable=durable)


def write_bytes(path: Path, content: bytes, *, durable: bool = False, named: bool = False) -> None:
    """Replaces the file at ``path``; its folder must exist."""
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
    """Writes all of ``content``; the kernel may take a large buffer in parts."""
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
    """Puts ``temporary`` in the place of ``path``, atomic for readers, without waiting for the disk.

    ext4 flushes the new file when a plain rename replaces an old one (``auto_da_alloc``): 0.3 ms. Exchanging the two names
    and removing the old file costs a fifth of it and is as atomic.
    """
    if _renameat2 is not None and _renameat2(
        _AT_FDCWD, os.fsencode(temporary), _AT_FDCWD, os.fsencode(path), _RENAME_EXCHANGE
    ) == 0:  # fmt: skip
        _drop_replaced(temporary, path)
        return
    # No old file yet, or a file system without exchange (ENOENT, EINVAL): the plain rename does it, or says what is wrong.
    make_way(path)
    temporary.replace(path)


def _drop_replaced(temporary: Path, path: Path) -> None:
    """Removes what was in the place of ``path``; a folder stays under a name that tells where it was."""
    try:
        temporary.unlink()
    except (IsADirectoryError, PermissionError):
        set_aside(temporary, path)


def append_whole(path: Path, content: bytes) -> None:
    """Appends ``content`` by one write on an ``O_APPEND`` descriptor; for logs that nothing depends on."""
    failpoint(path.name, "before")
    descriptor = open_for_writing(path, os.O_WRONLY | os.O_APPEND)
    try:
        write_all(descriptor, content)
    finally:
        os.close(descriptor)


def is_temporary(path: Path) -> bool:
    """Whether the file is half-written or left behind by a crash."""
    return path.name.startswith(TEMPORARY_PREFIX)
