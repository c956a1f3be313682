"""Opening a run's place of work again, in any process, from the run directory or from the facts that it keeps."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from kilroy_engine.errors import CorruptRecord
from kilroy_engine.events.encoding import require_shallow
from kilroy_engine.rundir.files.layout import RunDirectory
from kilroy_engine.rundir.files.records import Manifest
from kilroy_engine.rundir.files.regular import read_file
from kilroy_engine.rundir.stages.branches import all_branches
from kilroy_engine.workspace.base import KeepWorktree, Workspace, WorkspaceFacts
from kilroy_engine.workspace.git_worktree import DEFAULT_EXCLUDE_GLOBS, GitWorkspace
from kilroy_engine.workspace.plain import PlainWorkspace


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class _Git(_Section):
    push_remote: str = ""
    keep_worktree: KeepWorktree = KeepWorktree.ON_FAILURE
    worktree_max_age_ms: int = 0
    sign: bool = False


class _Checkpoint(_Section):
    exclude_globs: tuple[str, ...] = ()


class _ArtifactPolicy(_Section):
    checkpoint: _Checkpoint = Field(default_factory=_Checkpoint)


class WorkspaceSettings(_Section):
    """What ``run_config.json`` says about the place of work, in Kilroy's keys."""

    git: _Git = Field(default_factory=_Git)
    artifact_policy: _ArtifactPolicy = Field(default_factory=_ArtifactPolicy)

    @property
    def exclude_globs(self) -> tuple[str, ...]:
        """Globs that reach no commit; an empty list means the defaults (Kilroy)."""
        return self.artifact_policy.checkpoint.exclude_globs or DEFAULT_EXCLUDE_GLOBS


def workspace_settings_of(run: RunDirectory) -> WorkspaceSettings:
    """The run's own settings; the defaults where it has no ``run_config.json``.

    Raises:
        CorruptRecord: The file holds something else.
    """
    content = read_file(run.run_config)
    if content is None:
        return WorkspaceSettings()
    try:
        require_shallow(content)
        return WorkspaceSettings.model_validate_json(content)
    except ValidationError as error:
        raise CorruptRecord(f"{run.run_config} is damaged: {error.errors()[0]['msg']}", path=run.run_config) from error
    except ValueError as error:
        raise CorruptRecord(f"{run.run_config} is damaged: {error}", path=run.run_config) from error


def workspace_of(run: RunDirectory) -> Workspace:
    """The place of work of the run in ``run``. Looks at the records only: the folder itself may be gone.

    Raises:
        RunDirectoryError: The manifest is missing or damaged.
    """
    facts, settings = facts_in(run, Manifest.read(run)), workspace_settings_of(run)
    return reopen_workspace(facts, exclude_globs=settings.exclude_globs, sign=settings.git.sign)


def branch_worktrees(workspace: Workspace, run: RunDirectory) -> Iterator[GitWorkspace]:
    """Worktrees of parallel branches that are still there. Copies of a run without a repository are none: nothing else
    holds the work of a branch that did not win."""
    if not isinstance(workspace, GitWorkspace):
        return
    for branch in all_branches(run):
        found = workspace.worktree_at(branch.worktree)
        if found is not None:
            yield found


def facts_in(run: RunDirectory, manifest: Manifest) -> WorkspaceFacts:
    """What the manifest keeps of the place of work."""
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
    """The workspace of an earlier process."""
    return GitWorkspace(facts, exclude_globs, sign=sign) if facts.base_sha else PlainWorkspace(facts.worktree)
