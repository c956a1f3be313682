"""The place of work of a run: git worktrees and plain folders behind one protocol."""

from __future__ import annotations

from kilroy_engine.workspace.base import KeepWorktree, PushResult, Workspace, WorkspaceFacts
from kilroy_engine.workspace.git_worktree import GitPlan, GitWorkspace, find_repository, plan_git
from kilroy_engine.workspace.plain import PlainWorkspace, open_in_place, open_scratch
from kilroy_engine.workspace.reopen import reopen_workspace

__all__ = [
    "GitPlan",
    "GitWorkspace",
    "KeepWorktree",
    "PlainWorkspace",
    "PushResult",
    "Workspace",
    "WorkspaceFacts",
    "find_repository",
    "open_in_place",
    "open_scratch",
    "plan_git",
    "reopen_workspace",
]
