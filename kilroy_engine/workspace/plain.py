"""A plain folder as a place of work: a scratch folder of the run's own, or a folder of the user's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from kilroy_engine.errors import WorkspaceError
from kilroy_engine.traversal.outcome import FinalStatus
from kilroy_engine.workspace.base import KeepWorktree, PushResult, StageCommit, nothing_at_work


@dataclass(frozen=True, slots=True)
class PlainWorkspace:
    """A folder without commits. The engine never removes the folder: no other copy of its files exists."""

    path: Path
    base_sha: str = ""
    branch: str = ""

    @property
    def committed(self) -> str:
        return ""

    @property
    def source(self) -> None:
        return None

    def commit_stage(self, node_id: str, status: str, at_work: Callable[[], bool] = nothing_at_work) -> StageCommit:
        return StageCommit("")

    def clear_locks(self, at_work: Callable[[], bool] = nothing_at_work) -> None:
        return

    def head(self) -> str:
        return ""

    def require_restorable(self, sha: str) -> None:
        if not self.path.is_dir():
            raise WorkspaceError(
                f"work folder {self.path} is gone, and with it the work of the finished stages; put it back, or start a new run"
            )

    def restore(self, sha: str) -> None:
        _make(self.path)

    def advance(self, sha: str) -> bool:
        return True

    def push(self, remote: str, *, timeout_s: float = 60.0) -> PushResult:
        return PushResult(remote, "", error="a plain folder has no branch to push")

    def tidy(self, status: FinalStatus, keep: KeepWorktree) -> bool:
        return False

    def abandon(self) -> None:
        return  # a scratch folder is removed with the run directory around it

    def close(self) -> None:
        return


def open_scratch(folder: Path) -> PlainWorkspace:
    """Opens a scratch folder of the run's own. Makes the folder if it is missing.

    Raises:
        WorkspaceError: The folder cannot be made.
    """
    _make(folder)
    return PlainWorkspace(folder.resolve())


def open_in_place(folder: Path) -> PlainWorkspace:
    """Opens a folder of the user's (``--workdir``), which must exist.

    Raises:
        WorkspaceError: There is no such folder.
    """
    if not folder.is_dir():
        raise WorkspaceError(f"work folder {folder} is not a folder; make it first or name another one")
    return PlainWorkspace(folder.resolve())


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise WorkspaceError(f"cannot make the work folder {folder}: {error.strerror or error}") from error
