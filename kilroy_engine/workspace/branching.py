"""Places of work for the branches of a fan-out, and bringing their work into the run's own place (Kilroy: parallel, fan-in)."""

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
    """Where the branches of a fan-out work: each branch in a place of its own, or all branches in the run's place."""

    OWN = "own"
    SHARED = "shared"


@dataclass(frozen=True, slots=True)
class BranchPlace:
    """A branch's place of work. ``warning`` says which ignored files were not copied into the place; empty for none."""

    workspace: Workspace
    warning: str = ""


def branch_place(workspace: Workspace, folder: Path, *, name: tuple[str, ...], sha: str, max_bytes: int) -> BranchPlace:
    """Makes a branch's place of work at ``folder``, with the content that ``workspace`` has at commit ``sha``.

    In a repository the place is a worktree on a git branch called ``name``, and the ignored files are copied into the
    worktree. Elsewhere the place is a copy of the folder. A place that an interrupted start left at ``folder`` is replaced.

    Raises:
        WorkspaceError: The place cannot be made, or the copy would be larger than ``max_bytes``.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(workspace, GitWorkspace):
        place = workspace.branch_off(folder, branch_name(name), sha)
        return BranchPlace(place, _carry_ignored(workspace.path, place.path, max_bytes))
    copy_folder(workspace.path, folder, max_bytes=max_bytes)
    return BranchPlace(PlainWorkspace(folder.resolve()))


def adopt_branch(workspace: Workspace, branch_folder: Path, sha: str, *, max_bytes: int, message: str) -> str:
    """Brings the winning branch's work into the run's place of work. Called by a fan-in. Returns a warning about ignored files
    that were not copied, empty for none.

    git fast-forwards the run's branch to ``sha``. If the run's branch has commits since the fan-out began (a fan-in failed and
    the run was resumed), git makes a merge commit with the text ``message`` instead.

    Raises:
        WorkspaceError: git or the disk refused. A git place of work is then unchanged; a plain folder may be half copied.
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
    """Whether a branch's recorded work still exists: its commit in a repository, else its folder."""
    if isinstance(workspace, GitWorkspace):
        return not sha or bool(workspace.find_commit(sha))
    return branch_folder.is_dir()


def branch_name(parts: tuple[str, ...]) -> str:
    """The parts of a parallel branch's name as one name that git accepts."""
    return "/".join(ref_part(part) for part in parts)


def _carry_ignored(source: Path, target: Path, max_bytes: int) -> str:
    """Copies the files that git ignores (dependencies, build output, ``.kilroy``), so that stages need not build them again.
    Returns a warning if nothing was copied."""
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
