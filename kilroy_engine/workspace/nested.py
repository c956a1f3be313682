"""Git repositories inside a work folder, which scaffolders and ``git clone`` leave there.

git would commit only the id of a nested repository's commit, and the repository's files would be lost with the worktree. So
the engine adds the files themselves to the index. Afterwards git treats the nested folder as the index does: as plain files.
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
    """Differences between the index and a commit: paths in conflict (``unmerged``), folders that are only the id of a commit
    (``links``), and whether anything in ``.kilroy`` differs."""

    unmerged: tuple[str, ...]
    links: tuple[str, ...]
    has_folder_of_ours: bool


def index_changes(folder: Path, sha: str) -> IndexChanges:
    """The relevant differences between the index of ``folder`` and commit ``sha``."""
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
    """Folders that commit ``sha`` holds as the id of another commit only: submodules and nested repositories."""
    listed = run_git(repo, "ls-tree", "-r", "-z", sha)
    if _LINK_MODE not in listed:
        return ()
    entries = (entry.partition("\t") for entry in listed.split("\0"))
    return tuple(path for facts, _, path in entries if facts.startswith(f"{_LINK_MODE} "))


def declared_submodules(folder: Path) -> frozenset[str]:
    """Paths that ``.gitmodules`` in ``folder`` declares. Commits of submodules can be fetched again from their origin."""
    if not (folder / ".gitmodules").is_file():
        return frozenset()
    listed = run_git(folder, "config", "--file", ".gitmodules", "-z", "--list")
    entries = (entry.partition("\n") for entry in listed.split("\0"))
    return frozenset(value for key, _, value in entries if key.startswith("submodule.") and key.endswith(".path"))


def untracked_repositories(folder: Path, pathspec: Sequence[str]) -> tuple[str, ...]:
    """Nested repositories that are not in the index of ``folder``, with or without a commit of their own."""
    listed = run_git(folder, "ls-files", "--others", "--exclude-standard", "-z", "--", *pathspec)
    return tuple(name.rstrip("/") for name in listed.split("\0") if name.endswith("/"))


def take_in(folder: Path, names: Iterable[str], globs: Sequence[str], *, zeros: str) -> frozenset[str]:
    """Adds the files of the nested repositories ``names`` to the index of ``folder``. Returns the names of those without
    files.

    The ignore rules of each nested repository apply, and the ``globs`` of files that no commit holds. ``zeros`` is the
    all-zero id in the repository's length.
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
    """Files of the repository in ``name``, relative to ``folder``, including those of repositories inside it."""
    excluded = [f"{_EXCLUDE}{glob.removeprefix(f'{name}/')}" for glob in globs if not glob.startswith(":(")]
    command = ("ls-files", "--cached", "--others", "--exclude-standard", "-z", "--", ".", *excluded)
    try:
        # A stage's container may have made the repository as another user. Listing files runs nothing that its config sets.
        found = run_git(folder / name, "-c", "safe.directory=*", *command)
    except WorkspaceError as error:
        message = f"{readable(name)} is a git repository of its own, and it cannot be read: {error}"
        raise WorkspaceError(message, command=error.command, stderr=error.stderr) from error
    for listed in dict.fromkeys(entry.rstrip("/") for entry in found.split("\0") if entry):
        path = folder / name / listed
        try:
            mode = path.lstat().st_mode
        except OSError:
            continue  # still in the nested repository's index, but removed
        if stat.S_ISREG(mode) or stat.S_ISLNK(mode):
            yield f"{name}/{listed}"
        elif stat.S_ISDIR(mode) and (path / ".git").exists():
            yield from _files(folder, f"{name}/{listed}", globs)


def _pairs(listed: str) -> Iterator[tuple[str, str]]:
    parts = iter(listed.split("\0"))
    return zip(parts, parts, strict=False)
