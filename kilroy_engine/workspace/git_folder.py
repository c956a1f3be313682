"""A worktree's own git folder, ``<repository>/worktrees/<name>``: the branch of HEAD, unfinished operations and lock files."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from kilroy_engine.errors import WorkspaceError
from kilroy_engine.workspace.git_command import LOCK_PATIENCE_S, run_git, run_git_patiently

_YOUNG_S = 1.0  # a younger lock may be that of an editor, which runs git in the worktree now and then
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
"""Files in which git keeps an unfinished operation, each with the git command whose ``--quit`` ends the operation."""

IndexMark = tuple[int, int, int, int]
"""Differs for different states of the index file: git replaces the file and never changes it in place."""


def common_folder(repo: Path) -> Path:
    """The git folder that all worktrees of ``repo`` share."""
    return (repo / run_git(repo, "rev-parse", "--git-common-dir")).resolve()


@dataclass(frozen=True, slots=True)
class GitFolder:
    """The git folder ``path`` of the worktree ``worktree``. ``common`` is the git folder of the repository."""

    worktree: Path
    path: Path
    common: Path

    @property
    def objects(self) -> Path:
        return self.common / "objects"

    @property
    def is_sparse(self) -> bool:
        """Whether the worktree ever had a sparse checkout. git keeps the file after the sparse checkout is switched off."""
        return (self.path / "info" / "sparse-checkout").exists()

    def require_own(self) -> None:
        """Checks that a git command in the worktree uses this git folder and no other repository.

        Raises:
            WorkspaceError: A stage has removed or replaced the worktree's ``.git``.
        """
        link = self.worktree / ".git"
        if not link.is_file() or _path_in(link) != self.path:
            what = "has been replaced" if link.exists() else "is gone"
            raise WorkspaceError(
                f"{link} {what}; a stage must leave it as it is, a repository of its own belongs in a folder below"
            )

    def branch(self, expected: str) -> str:
        """The git branch that HEAD names; empty if HEAD names a commit. Runs no git process if the branch is ``expected``,
        except in a repository that keeps refs in tables."""
        head = self.path / "HEAD"
        try:
            if not head.is_symlink() and head.read_text(encoding="utf-8") == f"ref: refs/heads/{expected}\n":
                return expected
            return run_git(self.worktree, "symbolic-ref", "--quiet", "HEAD").removeprefix("refs/heads/")
        except (OSError, UnicodeDecodeError, WorkspaceError):
            return ""

    def end_operations(self) -> None:
        """Ends unfinished operations, such as a merge. Files, index and commits stay as they are."""
        for _ in _OPERATIONS:
            waiting = [command for name, command in _OPERATIONS.items() if (self.path / name).exists()]
            if not waiting:
                return
            run_git_patiently(self.worktree, waiting[0], "--quit")

    def index_mark(self) -> IndexMark:
        """The mark of the index as it is now; zeros if there is no index file."""
        try:
            found = (self.path / "index").stat()
        except OSError:
            return 0, 0, 0, 0
        return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns

    def clear_locks(self, at_work: Callable[[], bool]) -> None:
        """Removes the lock files that a killed git left in this folder. While ``at_work`` says that a process of the stage is
        alive, the locks count as that process's.

        Raises:
            WorkspaceError: The live process does not release its lock within the patience for locks.
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
        """Removes all lock files. Only called while no process of a stage can be alive."""
        for lock in self.path.glob("*.lock"):
            lock.unlink(missing_ok=True)


def find_git_folder(worktree: Path, common: Path) -> GitFolder:
    """The git folder of ``worktree`` as the repository knows it. A stage may have changed the worktree's own ``.git``.

    Raises:
        WorkspaceError: The repository has no such worktree.
    """
    link = worktree.resolve() / ".git"
    listed = common / "worktrees"
    said = _path_in(link)
    for place in ([said] if said and said.parent == listed else []) + _folders(listed):
        if _path_in(place / "gitdir") == link:
            return GitFolder(worktree, place.resolve(), common)
    raise WorkspaceError(f"{worktree} is no worktree of {common} any more: not a git repository of the run's")


def _folders(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError:
        return []


def _path_in(file: Path) -> Path | None:
    """The path in a git file that holds nothing but a path. A relative path counts from the file's folder."""
    try:
        text = file.read_text(encoding="utf-8", errors="surrogateescape").removeprefix("gitdir: ").rstrip("\n")
    except OSError:
        return None
    target = file.parent / text
    # A stage may have replaced the worktree's .git by a link, which must not be followed.
    return target.parent.resolve() / target.name


def _age_s(file: Path) -> float:
    try:
        return time.time() - file.stat().st_mtime
    except OSError:
        return 0.0
