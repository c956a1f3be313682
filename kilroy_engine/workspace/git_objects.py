"""Writes commit objects without a git process. A commit object is a text whose digest is its id.

git checks every commit before a branch is moved to the commit. An invalid text is refused then.
"""

from __future__ import annotations

import hashlib
import os
import time
import zlib
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkstemp

from kilroy_engine.errors import WorkspaceError

_READ_ONLY = 0o444
_SHA256_DIGITS = 64


@dataclass(frozen=True, slots=True)
class CommitIdentity:
    """The author and the committer of commits, each a text ``name <email>`` without a time."""

    author: str
    committer: str


FALLBACK_IDENTITY = CommitIdentity(*2 * ("kilroy-attractor <kilroy-attractor@local>",))
"""The identity on machines where git has no user name configured (Kilroy)."""


@dataclass(frozen=True, slots=True)
class CommitText:
    """The content of a commit. ``tree`` and ``parent`` are ids. ``message`` becomes one line."""

    tree: str
    parent: str
    identity: CommitIdentity
    message: str

    def encode(self, at: float) -> bytes:
        """The object's content. ``at`` is a time in seconds since the epoch, written with the local time zone, as git does."""
        offset = time.localtime(at).tm_gmtoff // 60
        zone = f"{'-' if offset < 0 else '+'}{abs(offset) // 60:02}{abs(offset) % 60:02}"
        lines = (
            f"tree {self.tree}",
            f"parent {self.parent}",
            f"author {self.identity.author} {int(at)} {zone}",
            f"committer {self.identity.committer} {int(at)} {zone}",
            "",
            " ".join(self.message.replace("\0", " ").split()),
            "",
        )
        return "\n".join(lines).encode(errors="replace")


def write_commit(objects: Path, commit: CommitText) -> str:
    """Writes ``commit`` as a loose object into a repository's folder ``objects``. Returns the commit's id.

    The length of the tree's id tells whether the repository uses SHA-1 or SHA-256.

    Raises:
        WorkspaceError: The disk refused.
    """
    content = commit.encode(time.time())
    stored = b"commit %d\0%s" % (len(content), content)
    digest = hashlib.sha256 if len(commit.tree) == _SHA256_DIGITS else hashlib.sha1
    name = digest(stored).hexdigest()
    target = objects / name[:2] / name[2:]
    try:
        _place(objects, target, zlib.compress(stored))
    except OSError as error:
        raise WorkspaceError(f"cannot write commit {name} to {target}: {error.strerror or error}") from error
    return name


def _place(objects: Path, target: Path, packed: bytes) -> None:
    """Writes the object to a temporary file and renames the file, as git does, so that no reader sees half an object."""
    if target.exists():
        return
    if not target.parent.is_dir():
        target.parent.mkdir(exist_ok=True)
        # The mode of this folder says whether a group shares the repository.
        target.parent.chmod(objects.stat().st_mode & 0o7777)
    handle, temporary = mkstemp(prefix="tmp_obj_", dir=target.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(packed)
        Path(temporary).chmod(_READ_ONLY)
        Path(temporary).replace(target)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
