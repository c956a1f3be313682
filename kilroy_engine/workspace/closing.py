"""What the end of a run does with the place of work: push the branch, remove the worktree."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from kilroy_engine.errors import RunDirectoryError
from kilroy_engine.events import Event, GitPushFailed, GitPushOk, GitPushStart, WarningGiven
from kilroy_engine.rundir.ending.closing import NOTHING, Closing
from kilroy_engine.rundir.files.layout import RunDirectory
from kilroy_engine.rundir.files.records import FinalOutcome
from kilroy_engine.workspace.base import KeepWorktree, Workspace
from kilroy_engine.workspace.reopen import branch_worktrees, workspace_of, workspace_settings_of


@dataclass(frozen=True, slots=True)
class WorkspaceClosing:
    """The closing of one run's workspace. ``push_remote`` is empty for a run that is not pushed."""

    run: RunDirectory
    workspace: Workspace
    push_remote: str
    keep_worktree: KeepWorktree

    def push(self, final: FinalOutcome, *, limit_s: float) -> Iterator[Event]:
        """Pushes the branch and yields Kilroy's ``git_push_*`` events, each as soon as it happened. A failed push adds a
        warning and does not change how the run ends."""
        del final  # a failed run's branch is pushed as well
        yield from push_events(self.workspace, self.push_remote, limit_s=limit_s)

    def tidy(self, final: FinalOutcome) -> Iterator[Event]:
        """Removes the run's worktree and those of its branches, as ``keep_worktree`` says."""
        for worktree in branch_worktrees(self.workspace, self.run):
            worktree.tidy(final.status, self.keep_worktree)
        self.workspace.tidy(final.status, self.keep_worktree)
        yield from ()


def push_events(workspace: Workspace, remote: str, *, limit_s: float) -> Iterator[Event]:
    """Pushes the run's branch to ``remote`` and yields the events of the push. Does nothing if the run has no branch or
    ``remote`` is empty. Also called before each restart."""
    branch = workspace.branch
    if not remote or not branch:
        return
    yield GitPushStart(remote=remote, branch=branch)
    result = workspace.push(remote, timeout_s=limit_s)
    if result.ok:
        yield GitPushOk(remote=remote, branch=branch)
        return
    yield WarningGiven(message=f"git push to {remote} failed: {result.error}")
    yield GitPushFailed(remote=remote, branch=branch, error=result.error)


def closing_of(run: RunDirectory) -> Closing:
    """The closing of the run in ``run``, read from the run's records. If the records cannot be read, nothing is pushed or
    removed."""
    try:
        settings = workspace_settings_of(run)
        return WorkspaceClosing(run, workspace_of(run), settings.push_remote, KeepWorktree(settings.keep_worktree))
    except RunDirectoryError:
        return NOTHING  # the run must get its end in any case, and a worktree that stays does no harm
