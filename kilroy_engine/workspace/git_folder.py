"""A worktree's own git folder, ``<repository>/worktrees/<name>``: what HEAD names, operations and locks that a stage left."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from kilroy_engine.errors import WorkspaceError
from kilroy_engine.workspace.git_command import LOCK_PATIENCE_S, run_git, run_git_patiently

_YOUNG_S = 1.0  # a younger lock may be that of an editor, which looks at the worktree now and then
_POLL_S = 0.05
_OPERATIONS = {
    "rebase-merge": "rebase",
    "rebase-apply/applying": "am",
    "rebase-apply": "rebase",
    "MERGE_HEAD": "merge",
    "CHERRY_PICK_HEAD": "cherry-pick",
    "REVERT_HEAD": "revert",
    "sequencer": "cherry-pick",
}
"""What git keeps of an operation that waits for somebody to go on with it, and the command that knows its ``--quit``."""

IndexMark = tuple[int, int, int, int]
"""Tells one state of the index file from another: git never changes the file in place."""


def common_folder(repo: Path) -> Path:
    """The git folder that all worktrees of ``repo`` share."""
    return (repo / run_git(repo, "rev-parse", "--git-common-dir")).resolve()


@dataclass(frozen=True, slots=True)
class GitFolder:
    """The git folder ``path`` of the worktree ``worktree``; ``common`` is the repository's own."""

    worktree: Path
    path: Path
    common: Path

    @property
    def objects(self) -> Path:
        return self.common / "objects"

    @property
    def is_sparse(self) -> bool:
        """Whether a sparse checkout was ever chosen here; git keeps the choice when that is switched off."""
        return (self.path / "info" / "sparse-checkout").exists()

    def require_own(self) -> None:
        """Makes sure that git, run in the worktree, works on this folder and on no other repository.

        Raises:
            WorkspaceError: A stage has removed or replaced the worktree's ``.git``.
        """
        link = self.worktree / ".git"
        if not link.is_file() or _pointed_at(link) != self.path:
            what = "has been replaced" if link.exists() else "is gone"
            raise WorkspaceError(
                f"{link} {what}; a stage must leave it as it is, a repository of its own belongs in a folder below"
            )

    def branch(self, expected: str) -> str:
        """The git branch that HEAD names; empty where it names a commit. Costs no git process where that is ``expected``,
        unless the repository keeps its refs in tables."""
        head = self.path / "HEAD"
        try:
            if not head.is_symlink() and head.read_text(encoding="utf-8") == f"ref: refs/heads/{expected}\n":
                return expected
            return run_git(self.worktree, "symbolic-ref", "--quiet", "HEAD").removeprefix("refs/heads/")
        except (OSError, UnicodeDecodeError, WorkspaceError):
            return ""

    def end_operations(self) -> None:
        """Ends what waits to be gone on with, and leaves files, index and commits as they are."""
        for _ in _OPERATIONS:
            waiting = [command for name, command in _OPERATIONS.items() if (self.path / name).exists()]
            if not waiting:
                return
            run_git_patiently(self.worktree, waiting[0], "--quit")

    def index_mark(self) -> IndexMark:
        """What tells the index as it is now from any other; zeros where nothing was ever added."""
        try:
            found = (self.path / "index").stat()
        except OSError:
            return 0, 0, 0, 0
        return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns

    def clear_locks(self, at_work: Callable[[], bool]) -> None:
        """Removes locks that a killed git left here. While ``at_work`` says that a process of the stage lives, they are its.

        Raises:
            WorkspaceError: Such a process holds one and does not let go of it.
        """
        began = time.monotonic()
        while locks := list(self.path.glob("*.lock")):
            watched_s = time.monotonic() - began
            if not at_work():
                for lock in locks:
                    if max(_age_s(lock), watched_s) >= _YOUNG_S:
                        lock.unlink(missing_ok=True)
            elif watched_s >= LOCK_PATIENCE_S:
                raise WorkspaceError(f"{locks[0]} is there, and a process that the stage has started is still at work")
            time.sleep(_POLL_S)

    def break_locks(self) -> None:
        """Removes all locks here, when nobody can be at work."""
        for lock in self.path.glob("*.lock"):
            lock.unlink(missing_ok=True)


def find_git_folder(worktree: Path, common: Path) -> GitFolder:
    """The git folder of ``worktree`` as the repository knows it, whatever the worktree itself says by now.

    Raises:
        WorkspaceError: The repository has no such worktree.
    """
    link = worktree.resolve() / ".git"
    listed = common / "worktrees"
    said = _pointed_at(link)
    for place in ([said] if said and said.parent == listed else []) + _folders(listed):
        if _pointed_at(place / "gitdir") == link:
            return GitFolder(worktree, place.resolve(), common)
    raise WorkspaceError(f"{worktree} is no worktree of {common} any more: not a git repository of the run's")


def _folders(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError:
        return []


def _pointed_at(file: Path) -> Path | None:
    """The path in one of git's files that hold nothing else; relative ones are meant from the file's folder."""
    try:
        text = file.read_text(encoding="utf-8", errors="surrogateescape").removeprefix("gitdir: ").rstrip("\n")
    except OSError:
        return None
    target = file.parent / text
    # The .git of a worktree that a stage has replaced is no link to be followed.
    return target.parent.resolve() / target.name


def _age_s(file: Path) -> float:
    try:
        return time.time() - file.stat().st_mtime
    except OSError:
        return 0.0
