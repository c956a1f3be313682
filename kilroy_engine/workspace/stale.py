"""Finds and removes old worktrees of ended runs."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from kilroy_engine.errors import RunDirectoryError
from kilroy_engine.rundir.files.layout import RunDirectory
from kilroy_engine.rundir.files.records import FinalOutcome, Manifest
from kilroy_engine.workspace.base import KeepWorktree
from kilroy_engine.workspace.git_worktree import GitWorkspace
from kilroy_engine.workspace.reopen import branch_worktrees, workspace_of, workspace_settings_of


def stale_worktree(run: RunDirectory, at: datetime) -> Path | None:
    """The worktree of a git run that ended at least ``worktree_max_age_s`` of its own settings before ``at``; else None.

    A worktree that is kept ``always`` is never stale, nor is a folder of the user's own.
    """
    try:
        final, manifest, settings = FinalOutcome.find(run), Manifest.find(run), workspace_settings_of(run)
    except RunDirectoryError:
        return None  # without readable records nothing is removed
    if final is None or manifest is None or not manifest.repo_path or not manifest.worktree:
        return None
    if settings.keep_worktree == KeepWorktree.ALWAYS or not settings.worktree_max_age_s:
        return None
    worktree = Path(manifest.worktree)
    age_s = (at - final.timestamp).total_seconds()
    return worktree if age_s >= settings.worktree_max_age_s and (worktree / ".git").is_file() else None


def discard_worktree(run: RunDirectory) -> bool:
    """Removes the run's worktree and those of its parallel branches; the git branches stay. Returns False if git was told to
    keep the worktree.

    Raises:
        RunDirectoryError: The manifest is missing or damaged.
    """
    workspace = workspace_of(run)
    for worktree in branch_worktrees(workspace, run):
        worktree.discard()
    return not isinstance(workspace, GitWorkspace) or workspace.discard()
