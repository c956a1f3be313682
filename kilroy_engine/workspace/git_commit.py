"""The commit of a stage, made of its parts: the index, a tree where that has changed, the commit as a text, the branch.

Whatever a stage has done with git in its worktree, its files become one commit with one parent on the run's own branch. Where
nothing was changed that costs one git process, else two; a third one stays for the whole run and moves the branch.
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
    """Where commits go: a worktree of the repository at ``repo``, on ``branch``. ``globs`` reach no commit, nor does what the
    engine writes for the stages.

    ``sign`` lets git sign commits with the key that the repository is set to.
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
        left_out = (glob if glob.startswith(":(") else f":(glob,exclude){glob}" for glob in self.globs)
        return (".", f":(exclude,literal){KILROY_FOLDER}", *left_out)


@dataclass(frozen=True, slots=True)
class RepositoryFacts:
    """What is the same for all worktrees of a run, and asked for once."""

    common: Path
    identity: CommitIdentity
    links: tuple[str, ...]
    """Folders that are only the name of a commit where the run began."""


@dataclass(frozen=True, slots=True)
class _Known:
    """The last commit of ours. ``index`` marks the index that holds its tree; None where that is not known."""

    sha: str
    tree: str = ""
    index: IndexMark | None = None


@dataclass
class StageCommitter:
    """Writes the commits of one worktree. ``begins_at`` is the commit that it stands at; ``reason`` is for reflogs."""

    place: CommitPlace
    begins_at: str
    reason: str
    facts: RepositoryFacts | None = None
    _folder: GitFolder | None = None
    _refs: RefWriter | None = None
    _empty: frozenset[str] = frozenset()
    _told: set[str] = field(default_factory=set[str])
    _warnings: list[str] = field(default_factory=list[str])

    def __post_init__(self) -> None:
        self._known = _Known(self.begins_at)

    def __getstate__(self) -> dict[str, object]:
        """For another process, which starts a git of its own."""
        return {**self.__dict__, "_refs": None}

    @property
    def sha(self) -> str:
        """The last commit of ours: made, or stood at."""
        return self._known.sha

    def stands_at(self, sha: str, *, clean: bool = False) -> None:
        """Branch and worktree were brought to commit ``sha``; ``clean``: its index holds that and nothing else."""
        self._known = _Known(sha, index=self.folder().index_mark() if clean else None)

    def reopen(self) -> None:
        """The worktree was made anew: its git folder may be another one."""
        self.close()
        self._folder = None

    def folder(self) -> GitFolder:
        """The worktree's own git folder.

        Raises:
            WorkspaceError: The repository does not know the worktree.
        """
        if self._folder is None:
            common = self.facts.common if self.facts else common_folder(self.place.repo)
            self._folder = find_git_folder(self.place.worktree, common)
        return self._folder

    def repository(self) -> RepositoryFacts:
        """What branches of the run need not ask for again."""
        if self.facts is None:
            worktree = self.place.worktree
            self.facts = RepositoryFacts(self.folder().common, identity_in(worktree), links_in(worktree, self.begins_at))
        return self.facts

    def commit(self, node_id: str, status: str, at_work: Callable[[], bool]) -> StageCommit:
        """One commit ``<reason>: <node> (<status>)`` with the worktree as it is now, even when nothing has changed.

        Raises:
            WorkspaceError: git refused.
            WorkInConflict: Files are in conflict, and the stage has not failed anyhow.
        """
        folder = self.folder()
        folder.require_own()
        folder.clear_locks(at_work)
        before: IndexChanges | None = None
        if folder.index_mark() != self._known.index:
            # A git of the stage's has been here.
            before = index_changes(self.place.worktree, self._known.sha)
            if before.unmerged and status != Status.FAIL:
                raise WorkInConflict(tuple(readable(path) for path in before.unmerged))
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
        """HEAD names the run's branch again, and no operation waits; files, index and commits stay as they are.

        Raises:
            WorkspaceError: The worktree is another repository's by now, or git refused.
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
        """The branch is where the worktree is: a stage in another worktree of the repository may have moved or removed it.

        Raises:
            WorkspaceError: git refused.
        """
        ours, tip, branch = self._known.sha, commit_of(self.place.repo, self.place.ref), self.place.branch
        if tip == ours:
            return
        kept = f"; what it named is kept on {self._keep(tip, node_id)}" if tip else ""
        self._ref_writer().move(self.place.ref, ours, tip or "0" * len(ours))
        self._warnings.append(f"a stage elsewhere {'moved' if tip else 'removed'} branch {branch}; it was put back{kept}")

    def close(self) -> None:
        """Ends the git process that moves the branch."""
        if self._refs is not None:
            self._refs.close()

    def _keep_detached(self, node_id: str) -> str:
        worktree = self.place.worktree
        sha = commit_of(worktree, "HEAD")
        holders = ("refs/heads", "refs/tags", "refs/remotes")
        if not sha or run_git(worktree, "for-each-ref", "--count=1", "--contains", sha, *holders):
            return ""
        return self._keep(sha, node_id)

    def _stage_files(self, links: Sequence[str]) -> bool:
        """Brings the index to what the worktree holds, nested repositories as files; whether that may have changed it."""
        known = [link for link in self.repository().links if self._is_repository(link)]
        nested = self._take_in([*links, *known, *(name for name in self._empty if self._is_repository(name))])
        try:
            answer = self._add()
        except WorkspaceError:
            # One without a commit is refused as a whole.
            if not self._take_in(untracked_repositories(self.place.worktree, self.place.pathspec)):
                raise
            nested, answer = True, self._add()
        if _EMBEDDED in answer.stderr:
            self._take_in(index_changes(self.place.worktree, self._known.sha).links)
        return nested or bool(answer.stdout)

    def _add(self) -> GitAnswer:
        """Its output names each file whose content or mode in the index is another one now."""
        sparse = ("--sparse",) if self.folder().is_sparse else ()
        empty = (f":(exclude,literal){name}" for name in sorted(self._empty))
        return call_git_patiently(self.place.worktree, "add", "-A", "--verbose", *sparse, "--", *self.place.pathspec, *empty)

    def _take_in(self, names: Sequence[str]) -> bool:
        """Puts nested repositories into the index as files; whether there were any. Submodules stay what they are."""
        nested = frozenset(names)
        if nested:
            nested -= declared_submodules(self.place.worktree)
        if not nested:
            return False
        zeros = "0" * len(self._known.sha)
        empty = take_in(self.place.worktree, sorted(nested), self.place.globs, zeros=zeros)
        self._empty = (self._empty - nested) | empty
        for name in sorted(nested - empty - self._told):
            self._warnings.append(
                f"{readable(name)} is a git repository of its own: its files are committed, its history is not. A worktree "
                "that is made again, by a resume or for a branch, has the files alone"
            )
        self._told |= nested - empty
        return True

    def _is_repository(self, name: str) -> bool:
        return (self.place.worktree / name / ".git").exists()

    def _tree(self, *, changed: bool) -> str:
        """The tree of the index. It is written anew where that may have changed, else known from the commit before."""
        worktree, known = self.place.worktree, self._known
        if changed:
            return run_git_patiently(worktree, "write-tree")
        return known.tree or run_git(worktree, "rev-parse", "--verify", f"{known.sha}^{{tree}}")

    def _move_branch(self, tree: str, message: str, node_id: str) -> str:
        """The commit on top of the branch; where a stage has moved that, on top of what it made, if it follows from ours."""
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
        """The commit to go on from where the branch is at ``tip``. What does not follow from ours is kept aside."""
        ours, branch = self._known.sha, self.place.branch
        if not tip.strip("0"):
            self._warnings.append(f"the stage removed branch {branch}; it is made again")
            return ours
        if succeeds(self.place.repo, "merge-base", "--is-ancestor", ours, tip):
            return tip
        kept = self._keep(tip, node_id)
        self._warnings.append(
            f"the stage moved branch {branch} to a commit that does not follow from the last stage's; what it made is kept on "
            f"{kept}, and its files are committed on top of the last stage's"
        )
        return ours

    def _keep(self, sha: str, node_id: str) -> str:
        """Makes a branch for commits that a stage left where nobody would find them. Answers with its name."""
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
        """The committer of another worktree of the same run, which begins at ``sha``."""
        return StageCommitter(place, sha, self.reason, self.facts)


def identity_in(folder: Path) -> CommitIdentity:
    """Whose commits they are: the identity that git is set to, else the engine's."""
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
    """Options that give git the engine's identity; none where git has one of its own."""
    if identity != FALLBACK_IDENTITY:
        return ()
    name, _, email = FALLBACK_IDENTITY.committer.partition(" <")
    return ("-c", f"user.name={name}", "-c", f"user.email={email.removesuffix('>')}")


def commit_of(folder: Path, revision: str) -> str:
    """Id of the commit that ``revision`` names, empty where it names none."""
    try:
        return run_git(folder, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}")
    except WorkspaceError:
        return ""


def succeeds(folder: Path, *arguments: str) -> bool:
    """Whether git carries out the command."""
    try:
        run_git(folder, *arguments)
    except WorkspaceError:
        return False
    return True
