"""What of the user's own repository a run has no business with: where its checkout is, its branches, what is staged in it.

Agents follow absolute paths out of their worktree. A look reads a few files of the git folder and starts no git process.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from kilroy_engine.errors import WorkspaceError
from kilroy_engine.workspace.git_command import run_git

_SHOWN = 5
_ENTRY_BYTES = 40  # of an index entry: times, device, inode, owner and size, which a mere look of git's changes
_EXTENDED = 0x4000
_NAME_LENGTH = 0x0FFF


@dataclass(frozen=True, slots=True)
class SourceState:
    """A repository as it is now: what ``HEAD`` names, each branch's commit, a digest of what is staged."""

    head: str = ""
    branches: Mapping[str, str] = field(default_factory=dict[str, str])
    index: str = ""


class SourceRepository:
    """The checkout at ``path``. Branches whose names begin with ``own`` are the runs' and are not looked at."""

    def __init__(self, path: Path, own: str) -> None:
        self._own = f"{own.strip('/')}/"
        self._folder = _git_folder(path)
        self._common = _common_folder(self._folder)
        self._read: dict[Path, tuple[tuple[int, ...], str]] = {}

    def look(self) -> SourceState:
        """The repository as it is now. What cannot be read counts as empty."""
        branches = {name: sha for name, sha in self._branches() if not name.startswith(self._own)}
        return SourceState(_text(self._folder / "HEAD"), branches, self._index())

    def _branches(self) -> Iterator[tuple[str, str]]:
        """Packed ones first: a loose one of the same name counts."""
        if (self._common / "reftable").is_dir():
            yield from _listed(self._common)
            return
        for line in _text(self._common / "packed-refs").splitlines():
            sha, _, name = line.partition(" ")
            if name.startswith("refs/heads/"):
                yield name.removeprefix("refs/heads/"), sha
        top = self._common / "refs" / "heads"
        for folder, _, names in os.walk(top):
            for name in names:
                file = Path(folder, name)
                if not name.endswith(".lock"):
                    yield str(file.relative_to(top)), _text(file)

    def _index(self) -> str:
        """The digest of what is staged; read again only when the file is another one."""
        file = self._folder / "index"
        try:
            found = file.stat()
            if not stat.S_ISREG(found.st_mode):
                return ""  # a pipe in its place would block whoever opens it
            mark = (found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
            known = self._read.get(file)
            if known is None or known[0] != mark:
                known = self._read[file] = mark, staged_digest(file.read_bytes())
        except OSError:
            return ""
        return known[1]


def differences(before: SourceState, after: SourceState) -> tuple[str, ...]:
    """What is another than before, one phrase each."""
    found: list[str] = []
    if before.head != after.head:
        found.append(f"HEAD went from {_named(before.head)} to {_named(after.head)}")
    for name in sorted({*before.branches, *after.branches}):
        old, new = before.branches.get(name), after.branches.get(name)
        if old != new:
            what = "was made" if old is None else "was removed" if new is None else f"went from {old[:8]} to {new[:8]}"
            found.append(f"branch {name} {what}")
    if before.index != after.index:
        found.append("the index has other content")
    return (*found[:_SHOWN], f"and {len(found) - _SHOWN} more") if len(found) > _SHOWN else tuple(found)


def staged_digest(index: bytes) -> str:
    """A digest of the entries of a git index file (versions 2 to 4): mode, object, stage and name of each.

    What else the file holds changes when somebody merely looks (times, extensions).
    """
    version, entries = int.from_bytes(index[4:8]), int.from_bytes(index[8:12])
    digest = hashlib.sha256()
    position = 12
    hash_bytes = _hash_bytes(index)
    try:
        for _ in range(entries):
            flags_at = position + _ENTRY_BYTES + hash_bytes
            flags = int.from_bytes(index[flags_at : flags_at + 2])
            name_at = flags_at + (4 if flags & _EXTENDED else 2)
            end = index.index(b"\0", name_at)
            if version < 4 and flags & _NAME_LENGTH < _NAME_LENGTH:
                end = name_at + (flags & _NAME_LENGTH)
            digest.update(index[position + 24 : position + 28])
            digest.update(index[position + _ENTRY_BYTES : end + 1])
            length = end - position
            position = end + 1 if version >= 4 else position + (length + 8) // 8 * 8
    except (ValueError, IndexError):
        return hashlib.sha256(index).hexdigest()  # a form that we do not know: any change counts
    return digest.hexdigest()


def _hash_bytes(index: bytes) -> int:
    """Object ids have 20 bytes, in repositories of SHA-256 32: the file ends with a digest of the same kind."""
    content, trailer = index[:-20], index[-20:]
    return 20 if hashlib.sha1(content, usedforsecurity=False).digest() == trailer or not any(trailer) else 32


def _git_folder(checkout: Path) -> Path:
    link = checkout / ".git"
    if link.is_dir():
        return link
    pointed = _text(link).removeprefix("gitdir:").strip()
    return (checkout / pointed).resolve() if pointed else checkout  # a bare repository is its own folder


def _common_folder(folder: Path) -> Path:
    pointed = _text(folder / "commondir")
    return (folder / pointed).resolve() if pointed else folder


def _listed(common: Path) -> Iterator[tuple[str, str]]:
    """Branches of a repository that keeps them in tables, as git tells them."""
    try:
        listing = run_git(common, "for-each-ref", "--format=%(refname:lstrip=2) %(objectname)", "refs/heads")
    except WorkspaceError:
        return
    for line in listing.splitlines():
        name, _, sha = line.rpartition(" ")
        yield name, sha


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8", errors="replace").strip() if file.is_file() else ""
    except OSError:
        return ""


def _named(head: str) -> str:
    return head.removeprefix("ref: refs/heads/")[:40] or "nothing"
