"""Where a run works: one protocol for git worktrees and plain folders."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Protocol

from kilroy_engine.traversal.outcome import FinalStatus

KILROY_FOLDER = ".kilroy"
"""The engine's own folder in a place of work. What a repository has there stays as it is in all commits of the run."""


class KeepWorktree(StrEnum):
    """Which worktrees outlive their run. ``never`` removes also what was not committed."""

    ON_FAILURE = "on_failure"
    ALWAYS = "always"
    NEVER = "never"


class Submodules(StrEnum):
    """What is done about a repository with submodules, whose folders are empty in every worktree."""

    WARN = "warn"
    ACCEPT = "accept"
    REFUSE = "refuse"


@dataclass(frozen=True, slots=True)
class StageCommit:
    """The commit that a stage's work went into; ``sha`` is empty for a plain folder. ``warnings`` tell what was unusual."""

    sha: str
    warnings: tuple[str, ...] = ()


def nothing_at_work() -> bool:
    """For work that no process of a stage can be at."""
    return False


@dataclass(frozen=True, slots=True)
class PushResult:
    """What came of a push. ``error`` is empty when it worked, else what git said, in one paragraph."""

    remote: str
    branch: str
    error: str = ""

    @property
    def ok(self) -> bool:
        return not self.error


@dataclass(frozen=True, slots=True)
class WorkspaceFacts:
    """What ``manifest.json`` keeps of a workspace, so that any process can open it again. No ``base_sha``: a plain folder."""

    run_id: str
    worktree: Path
    repo_path: Path | None = None
    run_branch: str = ""
    base_sha: str = ""


class Workspace(Protocol):
    """The folder that stages work in. Every method may be called again, and from another process than the first."""

    @property
    def path(self) -> Path:
        """The folder."""
        ...

    @property
    def base_sha(self) -> str:
        """The commit that the run began with; empty for a plain folder."""
        ...

    @property
    def branch(self) -> str:
        """The run's branch; empty for a plain folder."""
        ...

    @property
    def committed(self) -> str:
        """The commit that the folder was last recorded in, restored to or begun with; empty for a plain folder."""
        ...

    @property
    def source(self) -> Path | None:
        """The user's repository that the folder is a worktree of; None for a plain folder."""
        ...

    def commit_stage(self, node_id: str, status: str, at_work: Callable[[], bool] = nothing_at_work) -> StageCommit:
        """Records the folder as the stage left it. ``at_work`` tells whether a process that the stage started still lives.

        Raises:
            WorkspaceError: The state could not be recorded, or is none that a stage may leave.
        """
        ...

    def clear_locks(self, at_work: Callable[[], bool] = nothing_at_work) -> None:
        """Removes what a killed git has left locked here, so that the next one can work. While ``at_work`` says that a process
        of the stage lives, locks are its.

        Raises:
            WorkspaceError: Such a process holds one and does not let go of it, or the folder is no place of work any more.
        """
        ...

    def head(self) -> str:
        """Id of the last commit, empty where there is none."""
        ...

    def require_restorable(self, sha: str) -> None:
        """Makes sure that :meth:`restore` can work. Changes nothing.

        Raises:
            WorkspaceError: What is gone, and what to do.
        """
        ...

    def restore(self, sha: str) -> None:
        """Brings the folder back to a recorded state; what came after it is dropped. A plain folder stays as it is.

        Raises:
            WorkspaceError: There is no such state, or it cannot be brought back.
        """
        ...

    def advance(self, sha: str) -> bool:
        """Makes sure that the folder holds the work on record at commit ``sha``, which may lie after the restored one: moves
        branch and folder on to ``sha`` where it follows from theirs, and leaves both where they hold it already.

        False where ``sha`` is gone or has gone another way; nothing was changed then. A plain folder is never put back, so it
        holds all work that is on record.

        Raises:
            WorkspaceError: The commit is there, and its files cannot be written.
        """
        ...

    def push(self, remote: str, *, timeout_s: float = 60.0) -> PushResult:
        """Sends the run's branch to ``remote``; never asks anybody for a password. A failure is a value."""
        ...

    def tidy(self, status: FinalStatus, keep: KeepWorktree) -> bool:
        """Removes what the end of the run leaves without use. True when the folder is gone."""
        ...

    def abandon(self) -> None:
        """Takes back that the workspace was made, for a run that cannot begin after all. A folder of the user's stays.

        Raises:
            WorkspaceError: git refused.
        """
        ...

    def close(self) -> None:
        """Lets go of what this process holds open; the folder stays."""
        ...
