"""Submodules of a repository, whose folders are empty in a worktree."""

from __future__ import annotations

from pathlib import Path

from kilroy_engine.errors import WorkspaceError
from kilroy_engine.workspace.base import Submodules
from kilroy_engine.workspace.nested import links_in

_SHOWN = 5


def check_submodules(repo: Path, sha: str, wanted: Submodules) -> tuple[str, ...]:
    """Warnings about the submodules in commit ``sha``; none if the commit has no submodules, or if they are accepted.

    Raises:
        WorkspaceError: The commit has submodules, and the setting refuses them.
    """
    if wanted is Submodules.ACCEPT or not links_in(repo, sha):
        return ()
    names = _submodules(repo, sha)
    if not names:
        return ()
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    what = (
        f"{repo} has submodules ({', '.join(names[:_SHOWN])}{more}), and their folders are empty in the run's worktree; fill "
        "them with a set-up command (`git submodule update --init`)"
    )
    if wanted is Submodules.REFUSE:
        raise WorkspaceError(f"{what}, or run with submodules=accept (now: refuse)")
    return (f"{what}; submodules=accept says that this is known",)


def _submodules(repo: Path, sha: str) -> list[str]:
    """Paths of the submodules that commit ``sha`` declares."""
    from git import Repo  # noqa: PLC0415 - takes 150 ms, and only a repository with submodules needs it
    from git.objects.submodule.base import Submodule  # noqa: PLC0415 - the same

    with Repo(repo) as opened:
        return sorted(str(module.path) for module in Submodule.iter_items(opened, opened.commit(sha)))
