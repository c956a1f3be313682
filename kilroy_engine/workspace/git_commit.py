"""The commit of a stage, made in steps: the index, a new tree if the index changed, the commit object, the branch.

Whatever a stage has done with git in its worktree, the stage's files become one commit with one parent on the run's own
branch. A commit costs one git process if nothing changed, else two. One more process lives as long as the run and moves the
branch.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from kilroy_engine.errors import WorkInConflict, WorkspaceError
from kilroy_engine.rundir.files.failpoints import failpoint
from kilroy_engine.traversal.outcome import Status
from kilroy_engine.workspace.base import KILROY_FOLDER, StageCommit
from kilroy_engine.workspace.git_command import GitAnswer, GitCall, call_git_patiently, readable, run_git, run_git_patiently
from kilroy_engine.workspace.git_folder import GitFolder, IndexMark, common_folder, find_git_folder
from kilroy_engine.workspace.git_objects import FALLBACK_IDENTITY, CommitIdentity, CommitText, write_commit
from kilroy_engine.workspace.git_refs import RefWriter, ref_part
from kilroy_engine.workspace.nested import (
    IndexChanges,
    declared_submodules,
    index_changes,
    links_in,
    take_in,
    untracked_repositories,
)

_NO_IDENTITY = re.compile(r"tell me who you are|identity unknown|empty ident name|auto-detect|no (email|name) was given")
_IDENT = re.compile(r"^(.*>) \d+ [+-]\d{4}$", re.DOTALL)
_EMBEDDED = "adding embedded git repository"
_TRIES = 3


@dataclass(frozen=True, slots=True)
class CommitPlace:
    """Where commits are made: in the worktree of the repository ``repo``, on ``branch``. Files that match ``globs`` and the
    ``.kilroy`` folder are in no commit.

    ``sign`` lets git sign commits with the key that the repository is configured with.
    """

    worktree: Path
    repo: Path
    branch: str
    globs: tuple[str, ...]
    sign: bool = False

    @property
    def ref(self) -> str:
        return f"refs/heads/{self.branch}"

    @property
    def pathspec(self) -> tuple[str, ...]:
        """What git is to look at: everything but the ``.kilroy`` folder and the globs. A glob that begins with ``:(`` is one of
        git's own pathspecs and is taken as it is."""
        left_out = (glob if glob.startswith(":(") else f":(glob,exclude){glob}" for glob in self.globs)
        return (".", f":(exclude,literal){KILROY_FOLDER}", *left_out)


@dataclass(frozen=True, slots=True)
class RepositoryFacts:
    """Facts that are the same for all worktrees of a run. git is asked for them once."""

    common: Path
    identity: CommitIdentity
    links: tuple[str, ...]
    """Folders that the run's base commit holds as the id of another commit only: submodules and nested repositories."""


@dataclass(frozen=True, slots=True)
class _Known:
    """The engine's last commit and its tree. While the index file still has the mark ``index``, it holds exactly that tree."""

    sha: str
    tree: str = ""
    index: IndexMark | None = None


@dataclass
class StageCommitter:
    """Makes the commits of one worktree, which is at commit ``begins_at``. ``reason`` is the text in git's reflogs.

    ``_empty`` are nested repositories without a commit of their own, which ``git add`` would refuse. ``_warned_of`` are nested
    repositories that a warning has named already.
    """

    place: CommitPlace
    begins_at: str
    reason: str
    facts: RepositoryFacts | None = None
    _folder: GitFolder | None = None
    _refs: RefWriter | None = None
    _empty: frozenset[str] = frozenset()
    _warned_of: set[str] = field(default_factory=set[str])
    _warnings: list[str] = field(default_factory=list[str])

    def __post_init__(self) -> None:
        self._known = _Known(self.begins_at)

    def __getstate__(self) -> dict[str, object]:
        """For a pickle: the other process starts its own git process for refs."""
        return {**self.__dict__, "_refs": None}

    @property
    def sha(self) -> str:
        """The last commit that the engine made, or that the engine moved the worktree to."""
        return self._known.sha

    def stands_at(self, sha: str, *, clean: bool = False) -> None:
        """Notes that branch and worktree were moved to commit ``sha``. ``clean`` says that the index holds exactly this
        commit."""
        self._known = _Known(sha, index=self.folder().index_mark() if clean else None)

    def reopen(self) -> None:
        """Forgets the worktree's git folder. Called after the worktree was made anew, perhaps with another git folder."""
        self.close()
        self._folder = None

    def folder(self) -> GitFolder:
        """The worktree's own git folder.

        Raises:
            WorkspaceError: The repository does not list the worktree.
        """
        if self._folder is None:
            common = self.facts.common if self.facts else common_folder(self.place.repo)
            self._folder = find_git_folder(self.place.worktree, common)
        return self._folder

    def repository(self) -> RepositoryFacts:
        """The facts about the repository. git is asked at the first call. Committers of parallel branches get the answer."""
        if self.facts is None:
            worktree = self.place.worktree
            self.facts = RepositoryFacts(self.folder().common, identity_in(worktree), links_in(worktree, self.begins_at))
        return self.facts

    def commit(self, node_id: str, status: str, at_work: Callable[[], bool]) -> StageCommit:
        """Makes one commit ``<reason>: <node> (<status>)`` of the worktree as it is, even when nothing has changed.

        Raises:
            WorkspaceError: git refused.
            WorkInConflict: Files are in conflict after a stage that did not fail.
        """
        folder = self.folder()
        folder.require_own()
        folder.clear_locks(at_work)
        before: IndexChanges | None = None
        if folder.index_mark() != self._known.index:
            # The stage has run git in the worktree.
            before = index_changes(self.place.worktree, self._known.sha)
            if before.unmerged and status != Status.FAIL:
                raise WorkInConflict(paths=tuple(readable(path) for path in before.unmerged))
            if before.has_folder_of_ours:
                run_git_patiently(self.place.worktree, "reset", "--quiet", self._known.sha, "--", KILROY_FOLDER)
        self.put_right(node_id)
        failpoint("commit", "before")
        changed = self._stage_files(before.links if before else ())
        failpoint("commit", "staged")
        tree, index = self._tree(changed=changed or before is not None), folder.index_mark()
        sha = self._move_branch(tree, f"{self.reason}: {node_id} ({status})", node_id)
        failpoint("commit", "after")
        self._known = _Known(sha, tree, index)
        warnings, self._warnings = tuple(self._warnings), []
        return StageCommit(sha, warnings)

    def put_right(self, node_id: str) -> None:
        """Lets HEAD name the run's branch again and ends unfinished git operations. Files, index and commits stay as they are.
        Called before each commit, merge and move of the branch.

        Raises:
            WorkspaceError: A stage has replaced the worktree's ``.git``, or git refused.
        """
        folder, branch = self.folder(), self.place.branch
        folder.require_own()
        folder.end_operations()
        elsewhere = folder.branch(branch)
        if elsewhere == branch:
            return
        if elsewhere:
            where = f"branch {elsewhere}"
        else:
            kept = self._keep_detached(node_id)
            where = f"no branch (HEAD was detached{f'; its commits are kept on {kept}' if kept else ''})"
        run_git_patiently(self.place.worktree, "symbolic-ref", "-m", self.reason, "HEAD", self.place.ref)
        self._warnings.append(f"the stage left the worktree on {where}; its files are committed on the run's branch {branch}")

    def hold_branch(self, node_id: str) -> None:
        """Moves the branch back to the engine's last commit if it is elsewhere: a stage in another worktree of the repository
        may have moved or removed the branch. Called before a merge.

        Raises:
            WorkspaceError: git refused.
        """
        ours, tip, branch = self._known.sha, commit_of(self.place.repo, self.place.ref), self.place.branch
        if tip == ours:
            return
        kept = f"; what it named is kept on {self._keep_on_branch(tip, node_id)}" if tip else ""
        self._ref_writer().move(self.place.ref, ours, tip or "0" * len(ours))
        self._warnings.append(f"a stage elsewhere {'moved' if tip else 'removed'} branch {branch}; it was put back{kept}")

    def close(self) -> None:
        """Ends the git process that moves the branch."""
        if self._refs is not None:
            self._refs.close()

    def _keep_detached(self, node_id: str) -> str:
        """Makes a branch for the commits of a detached HEAD, unless a ref contains them already. Returns the branch's name or
        an empty text."""
        worktree = self.place.worktree
        sha = commit_of(worktree, "HEAD")
        holders = ("refs/heads", "refs/tags", "refs/remotes")
        if not sha or run_git(worktree, "for-each-ref", "--count=1", "--contains", sha, *holders):
            return ""
        return self._keep_on_branch(sha, node_id)

    def _stage_files(self, links: Sequence[str]) -> bool:
        """Adds the worktree's files to the index. Returns whether the index may have changed.

        Nested repositories come first, because ``git add`` would record their commit in the place of their files: those that
        the index has already (``links``), that the run's base commit had, and that were empty before. One that a stage has
        just made is found by git's own complaint, and taken in afterwards.
        """
        known = [link for link in self.repository().links if self._is_repository(link)]
        nested = self._take_in([*links, *known, *(name for name in self._empty if self._is_repository(name))])
        try:
            answer = self._add()
        except WorkspaceError:
            # git refuses to add anything if a nested repository has no commit.
            if not self._take_in(untracked_repositories(self.place.worktree, self.place.pathspec)):
                raise
            nested, answer = True, self._add()
        if _EMBEDDED in answer.stderr:
            self._take_in(index_changes(self.place.worktree, self._known.sha).links)
        return nested or bool(answer.stdout)

    def _add(self) -> GitAnswer:
        """Runs ``git add``. The output names each file whose content or mode in the index has changed."""
        sparse = ("--sparse",) if self.folder().is_sparse else ()
        empty = (f":(exclude,literal){name}" for name in sorted(self._empty))
        return call_git_patiently(self.place.worktree, "add", "-A", "--verbose", *sparse, "--", *self.place.pathspec, *empty)

    def _take_in(self, names: Sequence[str]) -> bool:
        """Adds the files of the nested repositories ``names`` to the index. Submodules among them stay submodules.

        Returns whether any repository was left to add. ``zeros`` is git's id for no object.
        """
        nested = frozenset(names)
        if nested:
            nested -= declared_submodules(self.place.worktree)
        if not nested:
            return False
        zeros = "0" * len(self._known.sha)
        empty = take_in(self.place.worktree, sorted(nested), self.place.globs, zeros=zeros)
        self._empty = (self._empty - nested) | empty
        for name in sorted(nested - empty - self._warned_of):
            self._warnings.append(
                f"{readable(name)} is a git repository of its own: its files are committed, its history is not. A worktree "
                "that is made again, by a resume or for a branch, has the files alone"
            )
        self._warned_of |= nested - empty
        return True

    def _is_repository(self, name: str) -> bool:
        return (self.place.worktree / name / ".git").exists()

    def _tree(self, *, changed: bool) -> str:
        """Id of the index's tree. git writes the tree if it may have ``changed``; else it is the tree of the last commit."""
        worktree, known = self.place.worktree, self._known
        if changed:
            return run_git_patiently(worktree, "write-tree")
        return known.tree or run_git(worktree, "rev-parse", "--verify", f"{known.sha}^{{tree}}")

    def _move_branch(self, tree: str, message: str, node_id: str) -> str:
        """Commits ``tree`` on top of the branch and moves the branch to the commit. If a stage has moved the branch to a
        commit that follows from the engine's last one, the new commit goes on top of the stage's."""
        parent = at = self._known.sha
        for _ in range(_TRIES):
            sha = self._write(CommitText(tree, parent, self.repository().identity, message))
            try:
                self._ref_writer().move(self.place.ref, sha, at)
            except WorkspaceError:
                zeros = "0" * len(at)
                found = commit_of(self.place.repo, self.place.ref) or zeros
                if found == at:
                    raise
                at, parent = found, self._parent(found, node_id)
            else:
                return sha
        raise WorkspaceError(f"branch {self.place.branch} does not stay where it is: somebody else moves it")

    def _parent(self, tip: str, node_id: str) -> str:
        """The parent of the next commit when the branch is at ``tip``. A ``tip`` that does not follow from the engine's last
        commit gets a branch of its own."""
        ours, branch = self._known.sha, self.place.branch
        if not tip.strip("0"):
            self._warnings.append(f"the stage removed branch {branch}; it is made again")
            return ours
        if succeeds(self.place.repo, "merge-base", "--is-ancestor", ours, tip):
            return tip
        kept = self._keep_on_branch(tip, node_id)
        self._warnings.append(
            f"the stage moved branch {branch} to a commit that does not follow from the last stage's; what it made is kept on "
            f"{kept}, and its files are committed on top of the last stage's"
        )
        return ours

    def _keep_on_branch(self, sha: str, node_id: str) -> str:
        """Makes a branch for commits of a stage that no branch contains. Returns the branch's name."""
        wanted = f"{self.place.branch}-left/{ref_part(node_id)}"
        name, number = wanted, 1
        while (there := commit_of(self.place.repo, f"refs/heads/{name}")) and there != sha:
            number += 1
            name = f"{wanted}-{number}"
        if not there:
            self._ref_writer().move(f"refs/heads/{name}", sha, "0" * len(sha))
        return name

    def _write(self, commit: CommitText) -> str:
        if not self.place.sign:
            return write_commit(self.folder().objects, commit)
        call = GitCall(stdin=f"{commit.message}\n".encode(errors="replace"))
        options = (*config_of(commit.identity), "commit-tree", "-S", commit.tree, "-p", commit.parent, "-F", "-")
        return run_git_patiently(self.place.worktree, *options, call=call)

    def _ref_writer(self) -> RefWriter:
        if self._refs is None:
            self._refs = RefWriter(self.place.worktree, self.reason)
        return self._refs

    def beside(self, place: CommitPlace, sha: str) -> StageCommitter:
        """The committer of another worktree of the same run, which begins at commit ``sha``."""
        return StageCommitter(place, sha, self.reason, self.facts)


def identity_in(folder: Path) -> CommitIdentity:
    """The author and committer of commits: the identity that git is configured with, else the engine's."""
    texts: list[str] = []
    for name in ("GIT_AUTHOR_IDENT", "GIT_COMMITTER_IDENT"):
        try:
            found = _IDENT.match(run_git(folder, "var", name))
        except WorkspaceError as error:
            if not _NO_IDENTITY.search(error.stderr):
                raise
            return FALLBACK_IDENTITY
        texts.append(found.group(1) if found else FALLBACK_IDENTITY.committer)
    return CommitIdentity(*texts)


def config_of(identity: CommitIdentity) -> tuple[str, ...]:
    """git options for the engine's identity; none if git is configured with an identity."""
    if identity != FALLBACK_IDENTITY:
        return ()
    name, _, email = FALLBACK_IDENTITY.committer.partition(" <")
    return ("-c", f"user.name={name}", "-c", f"user.email={email.removesuffix('>')}")


def commit_of(folder: Path, revision: str) -> str:
    """Id of the commit that ``revision`` names; empty if there is none."""
    try:
        return run_git(folder, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}")
    except WorkspaceError:
        return ""


def succeeds(folder: Path, *arguments: str) -> bool:
    """Whether the git command ends without an error."""
    try:
        run_git(folder, *arguments)
    except WorkspaceError:
        return False
    return True
