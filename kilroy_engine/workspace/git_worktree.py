"""A git worktree as a place of work: a branch of the run's own, one commit per stage, the user's checkout untouched."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import stat
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from kilroy_engine.errors import WorkspaceError
from kilroy_engine.rundir.failpoints import failpoint
from kilroy_engine.traversal.outcome import FinalStatus
from kilroy_engine.workspace.base import KeepWorktree, PushResult, WorkspaceFacts
from kilroy_engine.workspace.git_command import load_git, run_git, run_git_patiently

DEFAULT_BRANCH_PREFIX = "attractor/run"
DEFAULT_EXCLUDE_GLOBS = ("**/.cargo-target*/**", "**/.cargo_target*/**", "**/.wasm-pack/**", "**/.tmpbuild/**")
"""Build output that no commit needs (Kilroy: artifact policy)."""

_FALLBACK_IDENTITY = ("-c", "user.name=kilroy-attractor", "-c", "user.email=kilroy-attractor@local")
_NO_IDENTITY = re.compile(r"tell me who you are|identity unknown|empty ident name|auto-detect|auto-detection is disabled")
_SHOWN_CHANGES = 5


def find_repository(folder: Path) -> Path | None:
    """Top of the work tree that ``folder`` lies in, None outside of any. Looks at files only: works without git."""
    for place in (folder.resolve(), *folder.resolve().parents):
        if (place / ".git").exists():
            return place
    return None


@dataclass(frozen=True, slots=True)
class GitPlan:
    """A git run that can begin: checked, but nothing made yet. ``base_sha`` is the commit that it begins with."""

    run_id: str
    repo_path: Path
    branch: str
    base_sha: str

    def open(self, worktree: Path, exclude_globs: Sequence[str] = DEFAULT_EXCLUDE_GLOBS) -> GitWorkspace:
        """Makes the branch and the worktree at ``worktree``. What fails half-way is taken back.

        Raises:
            WorkspaceError: git refused; most often because ``worktree`` is in use.
        """
        worktree.parent.mkdir(parents=True, exist_ok=True)
        worktree = worktree.parent.resolve() / worktree.name
        workspace = GitWorkspace(
            WorkspaceFacts(self.run_id, worktree, self.repo_path, self.branch, self.base_sha), exclude_globs
        )
        failpoint("worktree", "before")
        _add_worktree(self.repo_path, worktree, self.base_sha)
        failpoint("worktree", "added")
        try:
            # The branch comes last: where this fails, the run id is still free.
            run_git_patiently(worktree, "checkout", "--quiet", "--force", "-b", self.branch)
        except WorkspaceError:
            workspace.discard()
            raise
        failpoint("worktree", "after")
        return workspace


def plan_git(repo: Path, *, run_id: str, branch_prefix: str = DEFAULT_BRANCH_PREFIX, require_clean: bool = False) -> GitPlan:
    """Checks that a git run can begin in the repository around ``repo``. Changes nothing, not even the index.

    Raises:
        WorkspaceError: No git, no repository, no commit yet, a branch of that name, or (``require_clean``) uncommitted work.
    """
    top = _top_of(repo)
    base_sha = _commit_of(top, "HEAD")
    if not base_sha:
        raise WorkspaceError(f"repo has no commits or HEAD is unresolvable: {top}; make a first commit, or use --no-git")
    branch = f"{branch_prefix.strip('/')}/{run_id}"
    if not _succeeds(top, "check-ref-format", "--branch", branch):
        raise WorkspaceError(f"{branch} cannot be the name of a git branch; choose another branch prefix or run id")
    if _commit_of(top, f"refs/heads/{branch}"):
        raise WorkspaceError(
            f"branch {branch} exists: run id {run_id} was used in {top}; choose another run id, or resume that run"
        )
    if require_clean:
        _require_clean(top)
    return GitPlan(run_id, top, branch, base_sha)


class GitWorkspace:
    """A run's worktree and branch. Stages work in ``path``; ``repo_path`` is the user's own checkout, only ever read."""

    def __init__(self, facts: WorkspaceFacts, exclude_globs: Sequence[str] = DEFAULT_EXCLUDE_GLOBS) -> None:
        if facts.repo_path is None:
            raise WorkspaceError(f"{facts.worktree} has no repository to belong to")
        self.facts = facts
        self._repo_path = facts.repo_path
        self._pathspec = (".", *(glob if glob.startswith(":(") else f":(glob,exclude){glob}" for glob in exclude_globs))
        self._identity: tuple[str, ...] = ()

    @property
    def path(self) -> Path:
        return self.facts.worktree

    @property
    def base_sha(self) -> str:
        return self.facts.base_sha

    @property
    def branch(self) -> str:
        return self.facts.run_branch

    def commit_stage(self, node_id: str, status: str) -> str:
        """One commit ``attractor(<run_id>): <node> (<status>)``, even when nothing changed. Costs two git processes."""
        failpoint("commit", "before")
        run_git_patiently(self.path, "add", "-A", "--", *self._pathspec)
        failpoint("commit", "staged")
        message = f"attractor({self.facts.run_id}): {node_id} ({status})"
        try:
            self._commit(message)
        except WorkspaceError as error:
            if self._identity or not _NO_IDENTITY.search(error.stderr):
                raise
            self._identity = _FALLBACK_IDENTITY
            self._commit(message)
        failpoint("commit", "after")
        return self.head()

    def head(self) -> str:
        """The worktree's last commit; the branch's, once the worktree is gone."""
        return _read_head(self.path) if self._is_there() else _commit_of(self._repo_path, f"refs/heads/{self.branch}")

    def require_restorable(self, sha: str) -> None:
        run_id, repo = self.facts.run_id, self._repo_path
        if not repo.is_dir() or not _succeeds(repo, "rev-parse", "--git-dir"):
            raise WorkspaceError(f"the repository of run {run_id} is gone: {repo}; put it back, or start a new run")
        if not _commit_of(repo, sha):
            raise WorkspaceError(
                f"commit {sha} of run {run_id} is not in {repo}, so its worktree cannot be brought back; start a new run"
            )

    def restore(self, sha: str) -> None:
        """Puts branch and worktree back to ``sha``, making the worktree anew where it is gone.

        Call it only while no stage of the run can be at work: a lock that a killed git left behind is broken.
        """
        self.require_restorable(sha)
        failpoint("restore", "before")
        if not self._is_usable():
            if self.path.exists():
                self.discard()  # left half made by a git that was killed
            _add_worktree(self._repo_path, self.path, sha)
        failpoint("restore", "worktree")
        self._break_stale_locks()
        run_git_patiently(self.path, "checkout", "--quiet", "--force", "-B", self.branch, sha)
        run_git_patiently(self.path, "clean", "--quiet", "-d", "--force", "--", *self._pathspec)
        failpoint("restore", "after")

    def advance(self, sha: str) -> bool:
        head, wanted = self.head(), self.find_commit(sha)
        if not wanted or self.follows(head, wanted):
            return bool(wanted)
        if not self.follows(wanted, head):
            return False
        failpoint("advance", "before")
        # Set-up commands may have changed files since the restore; what the recorded work made of them is what counts.
        run_git_patiently(self.path, "checkout", "--quiet", "--force", "-B", self.branch, wanted)
        failpoint("advance", "after")
        return True

    def find_commit(self, sha: str) -> str:
        """Id of the commit that ``sha`` names, empty where the repository has no such commit."""
        return _commit_of(self._repo_path, sha)

    def follows(self, sha: str, earlier: str) -> bool:
        """Whether ``earlier`` is ``sha`` itself or one of its ancestors."""
        return _succeeds(self._repo_path, "merge-base", "--is-ancestor", earlier, sha)

    def branch_off(self, folder: Path, name: str, sha: str) -> GitWorkspace:
        """A worktree at ``folder`` for a parallel branch, on git branch ``<prefix>/parallel/<run_id>/<name>`` from ``sha``.

        What is at ``folder`` and on that git branch is replaced: it was left half-made by a process that died.
        """
        made = self.beside(folder, name, sha)
        failpoint("branch", "before")
        if made.path.exists():
            made.discard()
        _add_worktree(self._repo_path, made.path, sha)
        failpoint("branch", "added")
        run_git_patiently(made.path, "checkout", "--quiet", "--force", "-B", made.branch)
        failpoint("branch", "after")
        return made

    def beside(self, folder: Path, name: str, sha: str) -> GitWorkspace:
        """The worktree of a parallel branch as :meth:`branch_off` makes it. Makes nothing."""
        branch, worktree = f"{self._parallel_prefix()}/{name}", folder.parent.resolve() / folder.name
        found = GitWorkspace(WorkspaceFacts(self.facts.run_id, worktree, self._repo_path, branch, sha))
        found._pathspec, found._identity = self._pathspec, self._identity
        return found

    def worktree_at(self, folder: Path) -> GitWorkspace | None:
        """The worktree of a parallel branch that is at ``folder``, with the git branch it is on; None where there is none."""
        if not (folder / ".git").is_file():
            return None
        try:
            branch = run_git(folder, "symbolic-ref", "--quiet", "--short", "HEAD")
        except WorkspaceError:
            branch = ""
        found = GitWorkspace(WorkspaceFacts(self.facts.run_id, folder, self._repo_path, branch, self.base_sha))
        found._pathspec = self._pathspec
        return found

    def fast_forward(self, sha: str) -> None:
        """Moves branch and worktree on to ``sha``, a commit that follows from theirs."""
        failpoint("merge", "before")
        run_git_patiently(self.path, "merge", "--quiet", "--ff-only", sha)
        failpoint("merge", "after")

    def merge(self, sha: str, message: str) -> tuple[str, ...]:
        """Merges commit ``sha``. Answers with the files in conflict; where there are any, nothing was changed."""
        failpoint("merge", "before")
        try:
            run_git_patiently(self.path, *self._identity, "merge", "--quiet", "--no-ff", "-m", message, sha)
        except WorkspaceError as error:
            if not self._identity and _NO_IDENTITY.search(error.stderr):
                self._identity = _FALLBACK_IDENTITY
                run_git_patiently(self.path, "merge", "--abort") if self._is_merging() else None
                return self.merge(sha, message)
            conflicts = run_git(self.path, "diff", "--name-only", "--diff-filter=U", "-z").split("\0")
            if not self._is_merging():
                raise
            run_git_patiently(self.path, "merge", "--abort")
            return tuple(name for name in conflicts if name)
        failpoint("merge", "after")
        return ()

    def _is_merging(self) -> bool:
        return _succeeds(self.path, "rev-parse", "--verify", "--quiet", "MERGE_HEAD")

    def _parallel_prefix(self) -> str:
        """Branches of a run are beside its own branch, not below it: git allows no branch below another one (Kilroy)."""
        run_id, own = self.facts.run_id, self.branch
        root, is_branch, _ = own.partition(f"/parallel/{run_id}/")
        return f"{root if is_branch else own.rpartition('/')[0]}/parallel/{run_id}"

    def push(self, remote: str, *, timeout_s: float = 60.0) -> PushResult:
        refspec = f"refs/heads/{self.branch}:refs/heads/{self.branch}"
        try:
            run_git(self._repo_path, "push", "--quiet", "--", remote, refspec, timeout_s=timeout_s)
        except WorkspaceError as error:
            return PushResult(remote, self.branch, error=str(error))
        return PushResult(remote, self.branch)

    def tidy(self, status: FinalStatus, keep: KeepWorktree) -> bool:
        """Removes the worktree of a run that needs it no more; the branch stays.

        Kept are a failed run's (by default), and a successful one's that holds anything neither committed nor ignored.
        """
        if not self.path.exists():
            return True
        if keep is KeepWorktree.ALWAYS or (keep is KeepWorktree.ON_FAILURE and status is not FinalStatus.SUCCESS):
            return False
        if keep is not KeepWorktree.NEVER and not self._all_committed():
            return False
        return self.discard()

    def discard(self) -> bool:
        """Removes the worktree with everything in it. False when somebody has asked git to keep it (``git worktree lock``)."""
        if self._repo_path.is_dir() and not self._forget():
            return False
        if self.path.exists():
            _remove_tree(self.path)
        return True

    def _forget(self) -> bool:
        """Takes the worktree out of the repository's list, unless it is locked there."""
        with _repository_lock(self._repo_path):
            try:
                run_git_patiently(self._repo_path, "worktree", "remove", "--force", str(self.path))
            except WorkspaceError as error:
                # Else a folder without write permission (Go's module cache, say) or a lost .git: the rest does not need git.
                return "locked working tree" not in error.stderr
        return True

    def abandon(self) -> None:
        """Removes worktree and branch, so that the run id is free again."""
        self.discard()
        run_git_patiently(self._repo_path, "branch", "--quiet", "-D", self.branch)

    def close(self) -> None:
        return

    def _commit(self, message: str) -> None:
        run_git_patiently(self.path, *self._identity, "commit", "--quiet", "--allow-empty", "-m", message)

    def _is_usable(self) -> bool:
        return self._is_there() and _succeeds(self.path, "rev-parse", "--git-dir")

    def _is_there(self) -> bool:
        return (self.path / ".git").exists()

    def _all_committed(self) -> bool:
        """Whether the run's branch holds everything in the worktree that is not ignored. False when git cannot tell."""
        try:
            if run_git(self.path, "symbolic-ref", "--quiet", "HEAD") != f"refs/heads/{self.branch}":
                return False
            return not run_git(self.path, "--no-optional-locks", "status", "--porcelain", "--", *self._pathspec)
        except WorkspaceError:
            return False

    def _break_stale_locks(self) -> None:
        names = ("index.lock", "HEAD.lock", f"refs/heads/{self.branch}.lock")
        for lock in run_git(self.path, "rev-parse", *(part for name in names for part in ("--git-path", name))).splitlines():
            (self.path / lock).unlink(missing_ok=True)


def _add_worktree(repo_path: Path, worktree: Path, sha: str) -> None:
    """An empty worktree at ``sha``, on no branch. With many files the checkout takes long: that is left to do unlocked."""
    with _repository_lock(repo_path):
        # --force is for a folder that went away without git's knowledge; one that holds files is refused all the same.
        run_git_patiently(repo_path, "worktree", "add", "--quiet", "--force", "--no-checkout", "--detach", str(worktree), sha)


def _read_head(worktree: Path) -> str:
    """Commit that ``HEAD`` names, read from its files; asks git only where they are of another kind (reftable)."""
    load_git()
    from git import Repo, SymbolicReference

    try:
        with Repo(worktree) as repo:
            return SymbolicReference.dereference_recursive(repo, "HEAD")
    except (ValueError, OSError):
        return _commit_of(worktree, "HEAD")


def _commit_of(folder: Path, revision: str) -> str:
    """Id of the commit that ``revision`` names, empty where it names none."""
    try:
        return run_git(folder, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}")
    except WorkspaceError:
        return ""


def _succeeds(folder: Path, *arguments: str) -> bool:
    try:
        run_git(folder, *arguments)
    except WorkspaceError:
        return False
    return True


def _top_of(folder: Path) -> Path:
    if not folder.is_dir():
        raise WorkspaceError(f"{folder} is not a folder; name a repository with --repo")
    try:
        return Path(run_git(folder.resolve(), "rev-parse", "--show-toplevel", upwards=True))
    except WorkspaceError as error:
        if "not a git repository" in error.stderr:
            message = f"{folder} is not in a git repository; name one with --repo, or run with --no-git"
        elif "must be run in a work tree" in error.stderr:
            message = f"{folder} is a bare repository; name a checkout of it with --repo"
        else:
            raise
        raise WorkspaceError(message, command=error.command, stderr=error.stderr) from error


def _require_clean(top: Path) -> None:
    changes = run_git(top, "--no-optional-locks", "status", "--porcelain").splitlines()
    if not changes:
        return
    shown = ", ".join(line[3:] for line in changes[:_SHOWN_CHANGES])
    more = f" and {len(changes) - _SHOWN_CHANGES} more" if len(changes) > _SHOWN_CHANGES else ""
    raise WorkspaceError(
        f"repo has uncommitted changes (require_clean=true): {shown}{more} in {top}; commit or stash them first"
    )


@contextmanager
def _repository_lock(repo_path: Path) -> Generator[None]:
    """Lets one run at a time change the repository's list of worktrees, which git itself does not guard.

    The lock is on git's common folder itself: it leaves no file behind, and ends with the process that holds it.
    """
    common = run_git(repo_path, "rev-parse", "--git-common-dir")
    descriptor = os.open(repo_path / common, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        except OSError:
            pass  # a network file system without such locks: what remains is to try again when git finds a lock
        yield
    finally:
        os.close(descriptor)


def _remove_tree(folder: Path) -> None:
    for place, _, _ in os.walk(folder):
        os.chmod(place, stat.S_IRWXU)  # noqa: PTH101  # os.walk gives text; thousands of folders need no Path each
    shutil.rmtree(folder)
