"""``run.tgz``: the run directory at its end, without work folders, locks, secrets and half-written files."""

from __future__ import annotations

import gzip
import io
import os
import stat
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from kilroy_engine.errors import CorruptRecord, RunDirectoryError
from kilroy_engine.rundir.files.atomic import TEMPORARY_PREFIX
from kilroy_engine.rundir.files.failpoints import failpoint
from kilroy_engine.rundir.files.layout import RunDirectory
from kilroy_engine.rundir.files.regular import make_way, open_file, remove

_LEFT_OUT = frozenset({"run.tgz", "run.lock.json", "commit.lock", "end.lock"})
_KEPT_KINDS = frozenset({stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK})
_SECRET_FILES = frozenset({".codex/auth.json", ".codex/config.toml"})


def write_archive(run: RunDirectory, *, limit_s: float) -> bool:
    """Writes ``run.tgz``: members sorted by path, names relative to the run directory.

    False when the archive took longer than ``limit_s`` seconds; no file is left then.

    Raises:
        RunDirectoryError: The disk refused.
    """
    deadline = time.monotonic() + limit_s
    temporary = run.path / f"{TEMPORARY_PREFIX}{os.getpid()}-run.tgz"
    failpoint("run.tgz", "before")
    try:
        remove(temporary)
        with (
            temporary.open("xb") as raw,
            gzip.GzipFile(fileobj=raw, mode="wb", mtime=0, compresslevel=6) as packed,
            tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as archive,
        ):
            for path in _members(run.path):
                _add(archive, path, path.relative_to(run.path).as_posix(), deadline)
        failpoint("run.tgz", "rename")
        make_way(run.archive)
        temporary.replace(run.archive)
    except TimeoutError:
        return False
    except OSError as error:
        raise RunDirectoryError(f"cannot write {run.archive}: {error.strerror or error}", path=run.path) from error
    finally:
        temporary.unlink(missing_ok=True)
    failpoint("run.tgz", "after")
    return True


def _members(root: Path) -> list[Path]:
    return sorted(_walk(root, root), key=lambda path: path.relative_to(root).as_posix())


def _walk(root: Path, folder: Path) -> Iterator[Path]:
    with os.scandir(folder) as entries:
        for entry in entries:
            path = Path(entry.path)
            if _left_out(path.relative_to(root), is_folder=entry.is_dir(follow_symlinks=False)):
                continue
            yield path
            if entry.is_dir(follow_symlinks=False):
                yield from _walk(root, path)


def _left_out(relative: Path, *, is_folder: bool) -> bool:
    """Whether the archive leaves out the file or folder ``relative``."""
    name = relative.name
    if name in _LEFT_OUT or name.startswith(TEMPORARY_PREFIX):
        return True
    if name == "codex-home" or name.startswith("codex-home-retry") or "/".join(relative.parts[-2:]) in _SECRET_FILES:
        return True
    # worktree/ of the run, and of every branch: parallel/<fan>/pass<P>/<NN>-<key>/worktree/
    return is_folder and name == "worktree" and (len(relative.parts) == 1 or "parallel" in relative.parts)


def _add(archive: tarfile.TarFile, path: Path, name: str, deadline: float) -> None:
    _check(deadline)
    try:
        if stat.S_IFMT(path.lstat().st_mode) not in _KEPT_KINDS:
            return
        member = archive.gettarinfo(path, name)
        stream = open_file(path) if member.isreg() else None
    except (FileNotFoundError, CorruptRecord):
        return  # it was removed or replaced meanwhile
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    if not member.isreg():
        archive.addfile(member)
        return
    if stream is None:
        return
    with stream:
        member.size = os.fstat(stream.fileno()).st_size
        archive.addfile(member, _Bounded(stream, member.size, deadline))


class _Bounded(io.RawIOBase):
    """Reads exactly ``size_bytes`` of a file that may grow or shrink meanwhile. Missing bytes are zeros.

    ``read`` raises ``TimeoutError`` after the deadline.
    """

    def __init__(self, stream: BinaryIO, size_bytes: int, deadline: float) -> None:
        self._stream = stream
        self._left = size_bytes
        self._deadline = deadline

    def read(self, size: int = -1, /) -> bytes:
        _check(self._deadline)
        wanted = self._left if size < 0 else min(size, self._left)
        self._left -= wanted
        return self._stream.read(wanted).ljust(wanted, b"\0")


def _check(deadline: float) -> None:
    if time.monotonic() > deadline:
        raise TimeoutError
