"""Opens a run's place of work again, in any process, from the run directory or from its recorded facts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from kilroy_engine.rundir.files.layout import RunDirectory
from kilroy_engine.rundir.files.records import Manifest
from kilroy_engine.rundir.files.run_config import kept_settings
from kilroy_engine.rundir.stages.branches import all_branches
from kilroy_engine.settings.setting import Topic
from kilroy_engine.settings.table import RunSettings
from kilroy_engine.workspace.base import Workspace, WorkspaceFacts
from kilroy_engine.workspace.git_worktree import DEFAULT_EXCLUDE_GLOBS, GitWorkspace
from kilroy_engine.workspace.plain import PlainWorkspace


def workspace_settings_of(run: RunDirectory) -> RunSettings:
    """The run's settings about its place of work; the defaults for a run without ``run_config.json``. If the file sets no
    ``worktree_max_age_s``, the worktree has no maximum age.

    Raises:
        CorruptRecord: The file is damaged.
    """
    return kept_settings(run, otherwise=RunSettings(worktree_max_age_s=None), topics=(Topic.PLACE,))


def workspace_of(run: RunDirectory) -> Workspace:
    """The place of work of the run in ``run``, from the run's records alone. The folder itself may be gone.

    Raises:
        RunDirectoryError: The manifest is missing or damaged.
    """
    facts, settings = facts_in(run, Manifest.read(run)), workspace_settings_of(run)
    return reopen_workspace(facts, exclude_globs=settings.checkpoint_exclude_globs, sign=settings.sign)


def branch_worktrees(workspace: Workspace, run: RunDirectory) -> Iterator[GitWorkspace]:
    """The worktrees of parallel branches that still exist. A run without a repository has none: its branches' copies must
    stay, because nothing else holds the work of a branch that did not win."""
    if not isinstance(workspace, GitWorkspace):
        return
    for branch in all_branches(run):
        found = workspace.worktree_at(branch.worktree)
        if found is not None:
            yield found


def facts_in(run: RunDirectory, manifest: Manifest) -> WorkspaceFacts:
    """The facts about the place of work in the manifest."""
    return WorkspaceFacts(
        run_id=manifest.run_id,
        worktree=Path(manifest.worktree or run.worktree),
        repo_path=Path(manifest.repo_path) if manifest.repo_path else None,
        run_branch=manifest.run_branch,
        base_sha=manifest.base_sha,
    )


def reopen_workspace(
    facts: WorkspaceFacts, *, exclude_globs: tuple[str, ...] = DEFAULT_EXCLUDE_GLOBS, sign: bool = False
) -> Workspace:
    """The workspace that an earlier process made. If ``exclude_globs`` is empty, the default globs apply (Kilroy)."""
    return (
        GitWorkspace(facts, exclude_globs or DEFAULT_EXCLUDE_GLOBS, sign=sign)
        if facts.base_sha
        else PlainWorkspace(facts.worktree)
    )
