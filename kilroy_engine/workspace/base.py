"""The place of work of a run: one protocol for git worktrees and plain folders."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Protocol

from kilroy_engine.traversal.outcome import FinalStatus

KILROY_FOLDER = ".kilroy"
"""The engine's own folder in a place of work. No commit of the run changes a ``.kilroy`` folder of the repository."""


class KeepWorktree(StrEnum):
    """Which worktrees stay after the end of their run. ``never`` also removes a worktree with uncommitted files."""

    ON_FAILURE = "on_failure"
    ALWAYS = "always"
    NEVER = "never"


class Submodules(StrEnum):
    """What the engine does about a repository with submodules. The folders of submodules are empty in every worktree."""

    WARN = "warn"
    ACCEPT = "accept"
    REFUSE = "refuse"


@dataclass(frozen=True, slots=True)
class StageCommit:
    """The commit that holds a stage's work; ``sha`` is empty for a plain folder. Each warning is a sentence for people."""

    sha: str
    warnings: tuple[str, ...] = ()


def nothing_at_work() -> bool:
    """The default for ``at_work``: no process of a stage is alive."""
    return False


@dataclass(frozen=True, slots=True)
class PushResult:
    """The result of a push. ``error`` is empty for a push that worked, else git's message in one paragraph."""

    remote: str
    branch: str
    error: str = ""

    @property
    def ok(self) -> bool:
        return not self.error


@dataclass(frozen=True, slots=True)
class WorkspaceFacts:
    """The part of ``manifest.json`` from which any process opens the workspace again. A plain folder has no ``base_sha``."""

    run_id: str
    worktree: Path
    repo_path: Path | None = None
    run_branch: str = ""
    base_sha: str = ""


class Workspace(Protocol):
    """The folder that stages work in. Every method may be called again, also by another process than the one that opened it
    first."""

    @property
    def path(self) -> Path: ...

    @property
    def base_sha(self) -> str:
        """The commit that the run began at; empty for a plain folder."""
        ...

    @property
    def branch(self) -> str:
        """The run's branch; empty for a plain folder."""
        ...

    @property
    def committed(self) -> str:
        """The commit that the folder was last committed to, restored to or created at; empty for a plain folder."""
        ...

    @property
    def source(self) -> Path | None:
        """The user's repository that the folder is a worktree of; None for a plain folder."""
        ...

    def commit_stage(self, node_id: str, status: str, at_work: Callable[[], bool] = nothing_at_work) -> StageCommit:
        """Commits the folder as a stage left it. Called at the end of a visit, and before the branches of a fan-out begin.
        ``at_work`` says whether a process of the stage is still alive.

        Raises:
            WorkspaceError: git refused the commit, or the stage left a state that no stage may leave.
        """
        ...

    def clear_locks(self, at_work: Callable[[], bool] = nothing_at_work) -> None:
        """Removes the lock files that a killed git left in the folder. Called before a commit and between two attempts. While
        ``at_work`` says that a process of the stage is alive, the locks count as that process's and stay.

        Raises:
            WorkspaceError: A live process does not release its lock, or the folder is no place of work any more.
        """
        ...

    def head(self) -> str:
        """Id of the branch's last commit; empty for a plain folder."""
        ...

    def require_restorable(self, sha: str) -> None:
        """Checks that :meth:`restore` can work. Changes nothing.

        Raises:
            WorkspaceError: Something is gone. The message says what is gone and what to do.
        """
        ...

    def restore(self, sha: str) -> None:
        """Puts the folder back to commit ``sha``. Later commits and changes are dropped. A plain folder stays as it is.

        Raises:
            WorkspaceError: The commit does not exist, or git cannot put the folder back.
        """
        ...

    def advance(self, sha: str) -> bool:
        """Makes sure that the folder holds the work of commit ``sha``. Called in a resume, after :meth:`restore`: a child
        pipeline or a fan-out may have committed after the run's checkpoint. Branch and folder move on to ``sha`` if ``sha``
        follows from their commit, and stay if they hold ``sha`` already.

        Returns False, and changes nothing, if ``sha`` is gone or does not follow from the folder's commit. Returns True for a
        plain folder: a plain folder is never put back, so it still holds all work.

        Raises:
            WorkspaceError: The commit exists, and git cannot write its files.
        """
        ...

    def push(self, remote: str, *, timeout_s: float = 60.0) -> PushResult:
        """Pushes the run's branch to ``remote``. git never asks for a password. A failure is a value, no exception."""
        ...

    def tidy(self, status: FinalStatus, keep: KeepWorktree) -> bool:
        """Removes the worktree at the end of the run if ``keep`` and ``status`` allow that. Returns True when the folder is
        gone."""
        ...

    def abandon(self) -> None:
        """Removes the new workspace of a run that could not begin. A folder of the user's stays.

        Raises:
            WorkspaceError: git refused.
        """
        ...

    def close(self) -> None:
        """Ends the processes and closes the files that this process keeps open for the folder. The folder stays."""
        ...
