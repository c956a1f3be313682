"""What a run's place of work still does at the end: push the branch, remove the worktree. From disk alone, in any process."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from kilroy_engine.errors import RunDirectoryError
from kilroy_engine.rundir.events import Event, GitPushFailed, GitPushOk, GitPushStart, WarningGiven
from kilroy_engine.rundir.layout import RunDirectory
from kilroy_engine.rundir.records import FinalOutcome, Manifest
from kilroy_engine.rundir.terminal import NOTHING, Closing
from kilroy_engine.workspace import KeepWorktree, Workspace, WorkspaceFacts, reopen_workspace


@dataclass(frozen=True, slots=True)
class WorkspaceClosing:
    """The end of a git run. ``push_remote`` is empty where nothing is pushed."""

    workspace: Workspace
    push_remote: str
    keep: KeepWorktree

    def push(self, final: FinalOutcome, *, limit_s: float) -> Iterator[Event]:
        """Pushes the run's branch; a failure is a warning and changes nothing."""
        if not self.push_remote:
            return
        branch = self.workspace.branch
        yield GitPushStart(remote=self.push_remote, branch=branch)
        result = self.workspace.push(self.push_remote, timeout_s=limit_s)
        if result.ok:
            yield GitPushOk(remote=self.push_remote, branch=branch)
            return
        yield WarningGiven(message=f"git push of {branch} to {self.push_remote} failed: {result.error}")
        yield GitPushFailed(remote=self.push_remote, branch=branch, error=result.error)

    def tidy(self, final: FinalOutcome) -> Iterator[Event]:
        """Removes a worktree that nobody needs any more."""
        self.workspace.tidy(final.status, self.keep)
        yield from ()


def closing_of(run: RunDirectory) -> Closing:
    """What is to be done for ``run``, from its manifest and its settings; nothing for a plain run.

    A damaged manifest leaves nothing to do: the end is written all the same, and the worktree stays.
    """
    try:
        manifest = Manifest.read(run)
    except RunDirectoryError:
        return NOTHING
    if not manifest.base_sha:
        return NOTHING
    facts = WorkspaceFacts(
        run_id=manifest.run_id,
        worktree=Path(manifest.worktree),
        repo_path=Path(manifest.repo_path),
        run_branch=manifest.run_branch,
        base_sha=manifest.base_sha,
    )
    remote, keep = _git_settings(run)
    return WorkspaceClosing(reopen_workspace(facts), remote, keep)


def _git_settings(run: RunDirectory) -> tuple[str, KeepWorktree]:
    try:
        git = json.loads(run.run_config.read_bytes())["git"]
        return str(git["push_remote"]), KeepWorktree(git["keep_worktree"])
    except (OSError, ValueError, KeyError, TypeError):
        return "", KeepWorktree.ON_FAILURE  # damaged: push nothing, keep what a failed run needs
