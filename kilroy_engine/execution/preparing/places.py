"""Chooses and checks the place of work of a run before anything is made."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias

from kilroy_engine.errors import InvalidInput, WorkspaceError
from kilroy_engine.settings.table import RunSettings
from kilroy_engine.workspace.base import Submodules, Workspace, WorkspaceFacts
from kilroy_engine.workspace.git_worktree import (
    DEFAULT_EXCLUDE_GLOBS,
    GitPlan,
    GitWorkspace,
    find_repository,
    head_of,
    plan_git,
)
from kilroy_engine.workspace.kilroy_folder import require_usable
from kilroy_engine.workspace.plain import open_in_place, open_scratch
from kilroy_engine.workspace.reopen import reopen_workspace


@dataclass(frozen=True, slots=True)
class PlainPlan:
    """A plain run: in the folder ``workdir``, or in a scratch folder of the run's own if ``workdir`` is None."""

    workdir: Path | None


@dataclass(frozen=True, slots=True)
class GuestPlan:
    """A child pipeline works in ``host``, the place of work of the run around it, on the same branch, from ``base_sha`` on.
    Nothing is made, so a failure removes nothing."""

    host: Workspace
    base_sha: str


WorkspacePlan: TypeAlias = GitPlan | PlainPlan | GuestPlan


def first_commit(settings: RunSettings, *, base: Path) -> str:
    """The commit that a new run begins at. Empty for a plain run, and for a repository that is missing or has no commit, which
    :func:`plan_workspace` refuses."""
    if settings.workdir or settings.workspace == "plain":
        return ""
    repo = _repository(settings, base)
    return head_of(repo) if repo else ""


def plan_workspace(settings: RunSettings, *, run_id: str, base: Path, base_sha: str = "") -> WorkspacePlan:
    """The plan for the place of work that the settings ask for, at ``base_sha`` or else at the repository's HEAD. Makes
    nothing.

    Without settings about the place, a run inside a repository is a git run, any other a plain run.

    Raises:
        InvalidInput: The settings contradict each other.
        WorkspaceError: The place cannot be used. The message says why and what to do.
    """
    if settings.workdir:
        if settings.repo or settings.workspace == "git":
            raise InvalidInput("a run works either on a repository (repo) or in a folder (workdir): give one", name="workdir")
        workdir = base / Path(settings.workdir).expanduser()
        if not workdir.is_dir():
            raise WorkspaceError(f"work folder {workdir} is not a folder; make it first or name another one")
        require_usable(workdir.resolve())
        return PlainPlan(workdir.resolve())
    if settings.workspace == "plain":
        if settings.repo:
            raise InvalidInput("a plain run has no repository: leave repo out, or choose the git workspace", name="repo")
        return PlainPlan(None)
    repo = _repository(settings, base)
    if repo is None:
        if settings.workspace == "git":
            raise WorkspaceError(f"{base} is not in a git repository; name one with repo, or choose the plain workspace")
        return PlainPlan(None)
    return plan_git(
        repo,
        run_id=run_id,
        base_sha=base_sha,
        branch_prefix=settings.run_branch_prefix,
        require_clean=settings.require_clean,
        submodules=Submodules(settings.submodules),
    )


def facts_of(plan: WorkspacePlan, *, run_id: str, worktree: Path) -> WorkspaceFacts:
    """The facts about the place of work that :func:`open_place` will make. The folder above ``worktree`` must exist."""
    match plan:
        case GitPlan():
            place = worktree.parent.resolve() / worktree.name
            return WorkspaceFacts(run_id, place, plan.repo_path, plan.branch, plan.base_sha)
        case PlainPlan():
            return WorkspaceFacts(run_id, plan.workdir or worktree.parent.resolve() / worktree.name)
        case GuestPlan(host=GitWorkspace() as host):
            return replace(host.facts, run_id=run_id, base_sha=plan.base_sha)
        case GuestPlan(host=host):
            return WorkspaceFacts(run_id, host.path)


def _repository(settings: RunSettings, base: Path) -> Path | None:
    return base / Path(settings.repo).expanduser() if settings.repo else find_repository(base)


def open_place(plan: WorkspacePlan, *, worktree: Path, exclude_globs: tuple[str, ...], sign: bool = False) -> Workspace:
    """Makes the place of work. ``worktree`` is the path of the worktree or scratch folder. ``sign`` signs commits.

    Raises:
        WorkspaceError: The place cannot be made. Everything that was made is removed.
    """
    exclude_globs = exclude_globs or DEFAULT_EXCLUDE_GLOBS
    match plan:
        case GitPlan():
            return plan.open(worktree, exclude_globs, sign=sign)
        case PlainPlan():
            return open_in_place(plan.workdir) if plan.workdir else open_scratch(worktree)
        case GuestPlan(host=GitWorkspace() as host):
            return reopen_workspace(replace(host.facts, base_sha=plan.base_sha), exclude_globs=exclude_globs, sign=sign)
        case GuestPlan(host=host):
            return open_in_place(host.path)
