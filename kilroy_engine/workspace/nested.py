"""Git repositories inside a work folder: what scaffolders and ``git clone`` leave there.

git itself would commit the name of a commit in their place, and their files would go with the worktree. They are committed as
content instead; git goes on with a folder in the way that the index knows it.
"""

from __future__ import annotations

import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from kilroy_engine.errors import WorkspaceError
from kilroy_engine.workspace.base import KILROY_FOLDER
from kilroy_engine.workspace.git_command import GitCall, readable, run_git, run_git_patiently

_LINK_MODE = "160000"
_EXCLUDE = ":(glob,exclude)"


@dataclass(frozen=True, slots=True)
class IndexChanges:
    """What the index holds beyond a commit: paths in conflict, commits in the place of folders, and whether anything of
    ``.kilroy`` is another one."""

    unmerged: tuple[str, ...]
    links: tuple[str, ...]
    has_folder_of_ours: bool


def index_changes(folder: Path, sha: str) -> IndexChanges:
    """What of interest was put into the index of ``folder`` since commit ``sha``."""
    listed = run_git(folder, "diff-index", "--cached", "--raw", "-z", "--no-renames", "--ignore-submodules=none", sha)
    unmerged: dict[str, None] = {}
    links: dict[str, None] = {}
    ours = False
    for facts, path in _pairs(listed):
        ours = ours or path == KILROY_FOLDER or path.startswith(f"{KILROY_FOLDER}/")
        if facts.endswith(" U"):
            unmerged[path] = None
        elif facts.split()[1] == _LINK_MODE:
            links[path] = None
    return IndexChanges(tuple(unmerged), tuple(links), ours)


def links_in(repo: Path, sha: str) -> tuple[str, ...]:
    """Folders that are only the name of a commit in commit ``sha``: submodules, and nested repositories."""
    listed = run_git(repo, "ls-tree", "-r", "-z", sha)
    if _LINK_MODE not in listed:
        return ()
    entries = (entry.partition("\t") for entry in listed.split("\0"))
    return tuple(path for facts, _, path in entries if facts.startswith(f"{_LINK_MODE} "))


def declared_submodules(folder: Path) -> frozenset[str]:
    """Paths that ``.gitmodules`` in ``folder`` declares: these commits can be fetched again from where they came."""
    if not (folder / ".gitmodules").is_file():
        return frozenset()
    listed = run_git(folder, "config", "--file", ".gitmodules", "-z", "--list")
    entries = (entry.partition("\n") for entry in listed.split("\0"))
    return frozenset(value for key, _, value in entries if key.startswith("submodule.") and key.endswith(".path"))


def untracked_repositories(folder: Path, pathspec: Sequence[str]) -> tuple[str, ...]:
    """Nested repositories that the index of ``folder`` knows nothing of, with and without a commit."""
    listed = run_git(folder, "ls-files", "--others", "--exclude-standard", "-z", "--", *pathspec)
    return tuple(name.rstrip("/") for name in listed.split("\0") if name.endswith("/"))


def take_in(folder: Path, names: Iterable[str], globs: Sequence[str], *, zeros: str) -> frozenset[str]:
    """Puts the files of nested repositories into the index of ``folder``. Answers with those that have none.

    Their own ignore rules hold, and the ``globs`` that reach no commit. ``zeros`` is the id of nothing in the repository.
    """
    files: Mapping[str, list[str]] = {name: list(_files(folder, name, globs)) for name in names}
    listed = "".join(f"{file}\0" for of_one in files.values() for file in of_one)
    if listed:
        call = GitCall(stdin=listed.encode(errors="surrogateescape"))
        run_git_patiently(folder, "update-index", "--add", "--remove", "--replace", "-z", "--stdin", call=call)
    empty = frozenset(name for name, found in files.items() if not found)
    if empty:
        gone = "".join(f"0 {zeros}\t{name}\0" for name in sorted(empty))
        call = GitCall(stdin=gone.encode(errors="surrogateescape"))
        run_git_patiently(folder, "update-index", "-z", "--index-info", call=call)
    return empty


def _files(folder: Path, name: str, globs: Sequence[str]) -> Iterator[str]:
    """Files of the repository in ``name``, relative to ``folder``, those of repositories inside it included."""
    excluded = [f"{_EXCLUDE}{glob.removeprefix(f'{name}/')}" for glob in globs if not glob.startswith(":(")]
    command = ("ls-files", "--cached", "--others", "--exclude-standard", "-z", "--", ".", *excluded)
    try:
        # A container of a stage may have made it, as another user. To list files git carries out nothing that is set in there.
        found = run_git(folder / name, "-c", "safe.directory=*", *command)
    except WorkspaceError as error:
        message = f"{readable(name)} is a git repository of its own, and it cannot be read: {error}"
        raise WorkspaceError(message, command=error.command, stderr=error.stderr) from error
    for listed in dict.fromkeys(entry.rstrip("/") for entry in found.split("\0") if entry):
        path = folder / name / listed
        try:
            mode = path.lstat().st_mode
        except OSError:
            continue  # known to the inner index, and removed since
        if stat.S_ISREG(mode) or stat.S_ISLNK(mode):
            yield f"{name}/{listed}"
        elif stat.S_ISDIR(mode) and (path / ".git").exists():
            yield from _files(folder, f"{name}/{listed}", globs)


def _pairs(listed: str) -> Iterator[tuple[str, str]]:
    parts = iter(listed.split("\0"))
    return zip(parts, parts, strict=False)
