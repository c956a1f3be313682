"""Places of work for parallel branches, and how their work comes back to the run's own (Kilroy: parallel, fan-in)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from kilroy_engine.errors import WorkspaceError
from kilroy_engine.rundir.files.copies import size_bytes
from kilroy_engine.workspace.base import Workspace
from kilroy_engine.workspace.copying import copy_entries, copy_folder, mirror_folder
from kilroy_engine.workspace.git_command import run_git
from kilroy_engine.workspace.git_refs import ref_part
from kilroy_engine.workspace.git_worktree import GitWorkspace
from kilroy_engine.workspace.plain import PlainWorkspace


class BranchWorkspace(StrEnum):
    """Where a fan-out's branches work: each in a place of its own, or all in the run's."""

    OWN = "own"
    SHARED = "shared"


@dataclass(frozen=True, slots=True)
class BranchPlace:
    """A branch's place of work. ``warning`` says what could not be brought along."""

    workspace: Workspace
    warning: str = ""


def branch_place(workspace: Workspace, folder: Path, *, name: tuple[str, ...], sha: str, max_bytes: int) -> BranchPlace:
    """A place for a branch at ``folder``, with what ``workspace`` holds at commit ``sha``.

    In a repository it is a worktree on a branch called ``name``, with the ignored files beside it; else a copy. What an
    earlier, interrupted attempt left there is replaced.

    Raises:
        WorkspaceError: It cannot be made, or a copy would be too large.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(workspace, GitWorkspace):
        place = workspace.branch_off(folder, branch_name(name), sha)
        return BranchPlace(place, _carry_ignored(workspace.path, place.path, max_bytes))
    copy_folder(workspace.path, folder, max_bytes=max_bytes)
    return BranchPlace(PlainWorkspace(folder.resolve()))


def adopt_branch(workspace: Workspace, branch_folder: Path, sha: str, *, max_bytes: int, message: str) -> str:
    """Brings the work of the winning branch over. Answers with a warning about what stayed behind, empty where nothing did.

    The run's branch is fast-forwarded. Where it has gone on since the branches began, as it has after a fan-in that failed and
    was resumed, it gets a merge commit with this message.

    Raises:
        WorkspaceError: It cannot be done; the run's place of work is then as it was, but for a plain folder.
    """
    if isinstance(workspace, GitWorkspace):
        if workspace.follows(sha, workspace.committed):
            workspace.fast_forward(sha)
        elif conflicts := workspace.merge(sha, message):
            raise WorkspaceError(
                f"the branch that won changes {', '.join(conflicts)}, and so does a stage that ran since: merge {sha} by hand"
            )
        return _carry_ignored(branch_folder, workspace.path, max_bytes) if branch_folder.is_dir() else ""
    mirror_folder(branch_folder, workspace.path)
    return ""


def holds_work(workspace: Workspace, branch_folder: Path, sha: str) -> bool:
    """Whether the work that a branch has on record is still there: in a repository its commit, else its folder."""
    if isinstance(workspace, GitWorkspace):
        return not sha or bool(workspace.find_commit(sha))
    return branch_folder.is_dir()


def branch_name(parts: tuple[str, ...]) -> str:
    """The parts of a parallel branch's name, put together so that git accepts it."""
    return "/".join(ref_part(part) for part in parts)


def _carry_ignored(source: Path, target: Path, max_bytes: int) -> str:
    """Copies what git ignores (dependencies, build output, ``.kilroy``), so that a branch does not begin from nothing."""
    try:
        listed = run_git(source, "ls-files", "--others", "--ignored", "--exclude-standard", "--directory", "-z")
        names = [name for name in listed.split("\0") if name]
        size = size_bytes(source / name for name in names)
        if size > max_bytes:
            return f"ignored files of {source} are {size} bytes, more than branch_copy_max_bytes ({max_bytes}): not copied"
        copy_entries(source, target, names)
    except WorkspaceError as error:
        return f"ignored files of {source} could not be copied: {error}"
    return ""
