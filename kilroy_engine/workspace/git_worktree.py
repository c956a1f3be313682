"""A git worktree as a place of work: a branch of the run's own, one commit per stage. The user's checkout stays unchanged."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from kilroy_engine.errors import WorkspaceError
from kilroy_engine.locks import lock
from kilroy_engine.rundir.files.failpoints import failpoint
from kilroy_engine.traversal.outcome import FinalStatus
from kilroy_engine.workspace.base import (
    KeepWorktree,
    PushResult,
    StageCommit,
    Submodules,
    WorkspaceFacts,
    nothing_at_work,
)
from kilroy_engine.workspace.git_command import GitCall, readable, run_git, run_git_patiently
from kilroy_engine.workspace.git_commit import CommitPlace, StageCommitter, commit_of, config_of, succeeds
from kilroy_engine.workspace.git_folder import common_folder
from kilroy_engine.workspace.submodules import check_submodules

DEFAULT_BRANCH_PREFIX = "attractor/run"
DEFAULT_EXCLUDE_GLOBS = ("**/.cargo-target*/**", "**/.cargo_target*/**", "**/.wasm-pack/**", "**/.tmpbuild/**")
"""Build output that no commit should hold (Kilroy: artifact policy)."""

_SHOWN_CHANGES = 5


def find_repository(folder: Path) -> Path | None:
    """Top of the work tree around ``folder``, None if there is none. Only looks at files, so it works without git."""
    for place in (folder.resolve(), *folder.resolve().parents):
        if (place / ".git").exists():
            return place
    return None


def head_of(repo: Path) -> str:
    """The commit of HEAD in the repository around ``repo``; empty if there is none."""
    return commit_of(repo, "HEAD")


@dataclass(frozen=True, slots=True)
class GitPlan:
    """A git run that passed the checks and for which nothing was made yet. ``base_sha`` is the commit that the run begins at.

    ``warnings`` say which parts of the repository no worktree will have.
    """

    run_id: str
    repo_path: Path
    branch: str
    base_sha: str
    warnings: tuple[str, ...] = ()

    def open(self, worktree: Path, exclude_globs: Sequence[str] = DEFAULT_EXCLUDE_GLOBS, *, sign: bool = False) -> GitWorkspace:
        """Makes the worktree at ``worktree`` and the run's branch. If one of them fails, both are removed.

        Raises:
            WorkspaceError: git refused; most often because ``worktree`` is in use.
        """
        worktree.parent.mkdir(parents=True, exist_ok=True)
        worktree = worktree.parent.resolve() / worktree.name
        facts = WorkspaceFacts(self.run_id, worktree, self.repo_path, self.branch, self.base_sha)
        workspace = GitWorkspace(facts, exclude_globs, sign=sign)
        failpoint("worktree", "before")
        _add_worktree(self.repo_path, worktree, self.base_sha)
        failpoint("worktree", "added")
        try:
            # The branch comes last: if a step before fails, no branch uses the run id.
            run_git_patiently(worktree, "checkout", "--quiet", "--force", "-b", self.branch)
            workspace.stands_at(self.base_sha)
        except WorkspaceError:
            workspace.discard()
            raise
        failpoint("worktree", "after")
        return workspace


def plan_git(
    repo: Path,
    *,
    run_id: str,
    base_sha: str = "",
    branch_prefix: str = DEFAULT_BRANCH_PREFIX,
    require_clean: bool = False,
    submodules: Submodules = Submodules.WARN,
) -> GitPlan:
    """Checks that a git run can begin in the repository around ``repo``, at ``base_sha`` or else at HEAD. Changes nothing, not
    even the index.

    Raises:
        WorkspaceError: git, the repository or a first commit is missing; the branch exists already; there is uncommitted work
            (``require_clean``); or there are submodules (``submodules``).
    """
    top = _top_of(repo)
    base_sha = base_sha or head_of(top)
    if not base_sha:
        raise WorkspaceError(f"repo has no commits or HEAD is unresolvable: {top}; make a first commit, or use --no-git")
    branch = f"{branch_prefix.strip('/')}/{run_id}"
    if not succeeds(top, "check-ref-format", "--branch", branch):
        raise WorkspaceError(f"{branch} cannot be the name of a git branch; choose another branch prefix or run id")
    if commit_of(top, f"refs/heads/{branch}"):
        raise WorkspaceError(
            f"branch {branch} exists: run id {run_id} was used in {top}; choose another run id, or resume that run"
        )
    if require_clean:
        _require_clean(top)
    return GitPlan(run_id, top, branch, base_sha, check_submodules(top, base_sha, submodules))


class GitWorkspace:
    """A run's worktree and branch. Stages work in ``path``. The user's own checkout is only read."""

    def __init__(
        self, facts: WorkspaceFacts, exclude_globs: Sequence[str] = DEFAULT_EXCLUDE_GLOBS, *, sign: bool = False
    ) -> None:
        if facts.repo_path is None:
            raise WorkspaceError(f"{facts.worktree} has no repository to belong to")
        self.facts = facts
        self._repo_path = facts.repo_path
        place = CommitPlace(facts.worktree, facts.repo_path, facts.run_branch, tuple(exclude_globs), sign=sign)
        self._committer = StageCommitter(place, facts.base_sha, f"attractor({facts.run_id})")

    @property
    def path(self) -> Path:
        return self.facts.worktree

    @property
    def base_sha(self) -> str:
        return self.facts.base_sha

    @property
    def branch(self) -> str:
        return self.facts.run_branch

    @property
    def committed(self) -> str:
        return self._committer.sha

    @property
    def source(self) -> Path:
        return self._repo_path

    def commit_stage(self, node_id: str, status: str, at_work: Callable[[], bool] = nothing_at_work) -> StageCommit:
        """Makes one commit ``attractor(<run_id>): <node> (<status>)`` on the run's branch, even when nothing changed.

        Nested git repositories are committed as plain files. If the stage has changed HEAD or the run's branch, or left a git
        operation unfinished, the engine puts HEAD back to the run's branch and ends the operation, and the commit still
        follows from the last stage's.

        Raises:
            WorkspaceError: git refused; the folder is no worktree any more; or files are in conflict. A failed stage's files
                in conflict are committed as they are.
        """
        return self._committer.commit(node_id, status, at_work)

    def clear_locks(self, at_work: Callable[[], bool] = nothing_at_work) -> None:
        self._committer.folder().clear_locks(at_work)

    def stands_at(self, sha: str) -> None:
        """Notes that branch, index and files were just brought to commit ``sha``."""
        self._committer.stands_at(sha, clean=True)

    def head(self) -> str:
        """The last commit of the run's branch. The worktree's HEAD may be elsewhere."""
        return commit_of(self._repo_path, f"refs/heads/{self.branch}")

    def require_restorable(self, sha: str) -> None:
        run_id, repo = self.facts.run_id, self._repo_path
        if not repo.is_dir() or not succeeds(repo, "rev-parse", "--git-dir"):
            raise WorkspaceError(f"the repository of run {run_id} is gone: {repo}; put it back, or start a new run")
        if not commit_of(repo, sha):
            raise WorkspaceError(
                f"commit {sha} of run {run_id} is not in {repo}, so its worktree cannot be brought back; start a new run"
            )

    def restore(self, sha: str) -> None:
        """Puts branch and worktree back to ``sha``. Makes the worktree anew if it is gone.

        Removes lock files, so it may only be called while no stage of the run can be at work.
        """
        self.require_restorable(sha)
        failpoint("restore", "before")
        if not self._is_usable():
            if self.path.exists():
                self.discard()  # left unfinished by a killed git, or replaced by a stage
            _add_worktree(self._repo_path, self.path, sha)
            self._committer.reopen()
        failpoint("restore", "worktree")
        self._break_stale_locks()
        self._committer.folder().end_operations()
        run_git_patiently(self.path, "checkout", "--quiet", "--force", "-B", self.branch, sha)
        # --force twice: git then also removes repositories that a stage made below the worktree.
        pathspec = self._committer.place.pathspec
        run_git_patiently(self.path, "clean", "--quiet", "-d", "--force", "--force", "--", *pathspec)
        self.stands_at(sha)
        failpoint("restore", "after")

    def advance(self, sha: str) -> bool:
        head, wanted = self.head(), self.find_commit(sha)
        if not wanted or self.follows(head, wanted):
            return bool(wanted)
        if not self.follows(wanted, head):
            return False
        failpoint("advance", "before")
        # Set-up commands may have changed files since the restore; the files of the recorded commit replace them.
        self._committer.put_right("advance")
        run_git_patiently(self.path, "checkout", "--quiet", "--force", "-B", self.branch, wanted)
        self.stands_at(wanted)
        failpoint("advance", "after")
        return True

    def find_commit(self, sha: str) -> str:
        """Id of the commit that ``sha`` names; empty if the repository has no such commit."""
        return commit_of(self._repo_path, sha)

    def follows(self, sha: str, earlier: str) -> bool:
        """Whether ``earlier`` is ``sha`` itself or one of its ancestors."""
        return succeeds(self._repo_path, "merge-base", "--is-ancestor", earlier, sha)

    def branch_off(self, folder: Path, name: str, sha: str) -> GitWorkspace:
        """Makes a worktree at ``folder`` for a parallel branch, on git branch ``<prefix>/parallel/<run_id>/<name>``, at
        ``sha``.

        A worktree at ``folder`` and a git branch of that name are replaced: a process that died has left them unfinished.
        """
        made = self.beside(folder, name, sha)
        failpoint("branch", "before")
        if made.path.exists():
            made.discard()
        _add_worktree(self._repo_path, made.path, sha)
        failpoint("branch", "added")
        run_git_patiently(made.path, "checkout", "--quiet", "--force", "-B", made.branch)
        made.stands_at(sha)
        failpoint("branch", "after")
        return made

    def beside(self, folder: Path, name: str, sha: str) -> GitWorkspace:
        """The worktree of a parallel branch with the path and the branch that :meth:`branch_off` gives it. Makes nothing."""
        branch, worktree = f"{self._parallel_prefix()}/{name}", folder.parent.resolve() / folder.name
        return self._sibling(WorkspaceFacts(self.facts.run_id, worktree, self._repo_path, branch, sha))

    def _sibling(self, facts: WorkspaceFacts) -> GitWorkspace:
        """Another worktree of the run, with the same excluded files and the same signing."""
        ours = self._committer
        found = GitWorkspace(facts, ours.place.globs, sign=ours.place.sign)
        found._committer = ours.beside(found._committer.place, facts.base_sha)
        return found

    def worktree_at(self, folder: Path) -> GitWorkspace | None:
        """The worktree of a parallel branch at ``folder``, with its current git branch; None if there is none."""
        if not (folder / ".git").is_file():
            return None
        try:
            branch = run_git(folder, "symbolic-ref", "--quiet", "--short", "HEAD")
        except WorkspaceError:
            branch = ""
        return self._sibling(WorkspaceFacts(self.facts.run_id, folder, self._repo_path, branch, self.base_sha))

    def fast_forward(self, sha: str) -> None:
        """Moves branch and worktree on to ``sha``, which must follow from their commit."""
        self._committer.put_right("fast-forward")
        self._committer.hold_branch("fast-forward")
        failpoint("merge", "before")
        run_git_patiently(self.path, "merge", "--quiet", "--ff-only", "--no-verify-signatures", sha)
        failpoint("merge", "after")
        self._committer.stands_at(sha)

    def merge(self, sha: str, message: str) -> tuple[str, ...]:
        """Merges commit ``sha``. Returns the files in conflict. If there are any, nothing was changed."""
        self._committer.put_right("merge")
        self._committer.hold_branch("merge")
        options = ("--quiet", "--no-ff", "--no-verify-signatures", *(("-S",) if self._committer.place.sign else ()))
        identity = config_of(self._committer.repository().identity)
        failpoint("merge", "before")
        try:
            run_git_patiently(self.path, *identity, "merge", *options, "-m", message, sha)
        except WorkspaceError:
            conflicts = run_git(self.path, "diff", "--name-only", "--diff-filter=U", "-z").split("\0")
            if not self._is_merging():
                raise
            run_git_patiently(self.path, "merge", "--abort")
            return tuple(readable(name) for name in conflicts if name)
        failpoint("merge", "after")
        self._committer.stands_at(self.head())
        return ()

    def _is_merging(self) -> bool:
        return succeeds(self.path, "rev-parse", "--verify", "--quiet", "MERGE_HEAD")

    def _parallel_prefix(self) -> str:
        """The first part of the names of a run's parallel branches. It is not below the run's own branch, because git allows
        no branch below another one (Kilroy)."""
        run_id, own = self.facts.run_id, self.branch
        root, is_branch, _ = own.partition(f"/parallel/{run_id}/")
        return f"{root if is_branch else own.rpartition('/')[0]}/parallel/{run_id}"

    def push(self, remote: str, *, timeout_s: float = 60.0) -> PushResult:
        refspec = f"refs/heads/{self.branch}:refs/heads/{self.branch}"
        try:
            # Hooks run here alone: git-lfs sends its files in the pre-push hook.
            call = GitCall(timeout_s=timeout_s, hooks=True)
            run_git(self._repo_path, "push", "--quiet", "--", remote, refspec, call=call)
        except WorkspaceError as error:
            return PushResult(remote, self.branch, error=str(error))
        return PushResult(remote, self.branch)

    def tidy(self, status: FinalStatus, keep: KeepWorktree) -> bool:
        """Removes the worktree of an ended run; the branch stays.

        By default the worktree of a failed run stays, and so does a worktree with files that are neither committed nor
        ignored.
        """
        if not self.path.exists():
            return True
        if keep is KeepWorktree.ALWAYS or (keep is KeepWorktree.ON_FAILURE and status is not FinalStatus.SUCCESS):
            return False
        if keep is not KeepWorktree.NEVER and not self._all_committed():
            return False
        return self.discard()

    def discard(self) -> bool:
        """Removes the worktree with everything in it. Returns False if git was told to keep the worktree (``git worktree
        lock``)."""
        if self._repo_path.is_dir() and not self._remove_from_list():
            return False
        if self.path.exists():
            _remove_tree(self.path)
        return True

    def _remove_from_list(self) -> bool:
        """Removes the worktree from the repository's list. Returns False if the worktree is locked there."""
        with _repository_lock(self._repo_path):
            try:
                run_git_patiently(self._repo_path, "worktree", "remove", "--force", str(self.path))
            except WorkspaceError as error:
                # Other causes, such as a folder without write permission or a lost .git, do not matter: files can be removed.
                return "locked working tree" not in error.stderr
        return True

    def abandon(self) -> None:
        """Removes worktree and branch, so that the run id can be used again."""
        self.discard()
        run_git_patiently(self._repo_path, "branch", "--quiet", "-D", self.branch)

    def close(self) -> None:
        self._committer.close()

    def _is_usable(self) -> bool:
        try:
            self._committer.folder().require_own()
        except WorkspaceError:
            return False
        return succeeds(self.path, "rev-parse", "--git-dir")

    def _all_committed(self) -> bool:
        """Whether the run's branch holds everything in the worktree that is not ignored. False if git cannot say."""
        try:
            folder = self._committer.folder()
            folder.require_own()
            if folder.branch(self.branch) != self.branch:
                return False
            return not run_git(self.path, "--no-optional-locks", "status", "--porcelain", "--", *self._committer.place.pathspec)
        except WorkspaceError:
            return False

    def _break_stale_locks(self) -> None:
        """Removes the locks in the worktree's own git folder, and the lock of the run's own branch, which only the run itself
        moves."""
        folder = self._committer.folder()
        folder.break_locks()
        (folder.common / f"{self._committer.place.ref}.lock").unlink(missing_ok=True)


def _add_worktree(repo_path: Path, worktree: Path, sha: str) -> None:
    """Adds a worktree without files at ``sha``, on no branch. The caller checks out the files without holding the repository's
    lock, because that may take long."""
    with _repository_lock(repo_path):
        # --force: the list may name a worktree whose folder is gone. git still refuses a folder that holds files.
        run_git_patiently(repo_path, "worktree", "add", "--quiet", "--force", "--no-checkout", "--detach", str(worktree), sha)


def _top_of(folder: Path) -> Path:
    if not folder.is_dir():
        raise WorkspaceError(f"{folder} is not a folder; name a repository with --repo")
    try:
        return Path(run_git(folder.resolve(), "rev-parse", "--show-toplevel", call=GitCall(upwards=True)))
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

    The lock is on git's common folder itself, so it leaves no file behind. The lock ends with the process that holds it.
    """
    descriptor = os.open(common_folder(repo_path), os.O_RDONLY)
    try:
        try:
            lock(descriptor)
        except OSError:
            pass  # a network file system without such locks; git's own locks are still waited for
        yield
    finally:
        os.close(descriptor)


def _remove_tree(folder: Path) -> None:
    for place, _, _ in os.walk(folder):
        os.chmod(place, stat.S_IRWXU)  # noqa: PTH101  # os.walk gives text; thousands of folders need no Path each
    shutil.rmtree(folder)
