"""The commit of a stage: complete, on the run's branch, with one parent, whatever the stage has done with git."""

from __future__ import annotations

import json
import os
import pickle
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from kilroy_engine.errors import WorkInConflict, WorkspaceError
from kilroy_engine.traversal.outcome import FinalStatus
from kilroy_engine.workspace import GitWorkspace, KeepWorktree, plan_git
from kilroy_engine.workspace.branching import adopt_branch

GitRunner = Callable[..., str]
BRANCH = "attractor/run/R1"


@pytest.fixture
def workspace(repo: Path, tmp_path: Path) -> GitWorkspace:
    """A run's worktree, just begun."""
    return plan_git(repo, run_id="R1").open(tmp_path / "run" / "worktree")


@pytest.fixture
def started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], object]], list[str]]:
    """The subcommands of all git processes that a call starts, those of its children included, as git itself counts them."""

    def count(call: Callable[[], object]) -> list[str]:
        trace = tmp_path / "trace"
        monkeypatch.setenv("GIT_TRACE2_EVENT", str(trace))
        call()
        monkeypatch.delenv("GIT_TRACE2_EVENT")
        lines = trace.read_text().splitlines() if trace.exists() else []
        trace.unlink(missing_ok=True)
        return [event["name"] for event in map(json.loads, lines) if event["event"] == "cmd_name"]

    return count


def commit(workspace: GitWorkspace, node_id: str = "build", status: str = "success") -> str:
    return workspace.commit_stage(node_id, status).sha


def content(git: GitRunner, workspace: GitWorkspace, revision: str = BRANCH) -> list[str]:
    return git(workspace.path, "ls-tree", "-r", "--name-only", revision).splitlines()


def make_repository(folder: Path, git: GitRunner, *, committed: bool = True) -> None:
    """What a scaffolder leaves: a repository with a file, an ignored file and, perhaps, a commit."""
    folder.mkdir(parents=True)
    git(folder, "init", "--quiet")
    (folder / "main.py").write_text("code\n")
    (folder / ".gitignore").write_text("*.o\n")
    (folder / "main.o").write_text("object\n")
    if committed:
        git(folder, "add", ".")
        git(folder, "commit", "--quiet", "-m", "scaffold")


class TestProcesses:
    """What a stage costs in git processes. The first commit also asks for identities and starts the one that stays."""

    def test_a_stage_that_changed_nothing_costs_one(
        self, workspace: GitWorkspace, started: Callable[[Callable[[], object]], list[str]]
    ) -> None:
        """The scan. The tree is the last commit's, the commit a text, and the process that moves the branch is there."""
        commit(workspace)

        assert started(lambda: commit(workspace, "check")) == ["add"]
        assert started(lambda: commit(workspace, "check")) == ["add"]

    def test_a_stage_that_changed_files_costs_two(
        self, workspace: GitWorkspace, started: Callable[[Callable[[], object]], list[str]]
    ) -> None:
        """The scan and the tree."""
        commit(workspace)
        (workspace.path / "new.txt").write_text("new")

        assert started(lambda: commit(workspace)) == ["add", "write-tree"]
        (workspace.path / "new.txt").write_text("old")
        assert started(lambda: commit(workspace)) == ["add", "write-tree"]
        assert started(lambda: commit(workspace)) == ["add"]

    def test_so_it_is_in_a_repository_without_files(
        self, tmp_path: Path, git: GitRunner, started: Callable[[Callable[[], object]], list[str]]
    ) -> None:
        """There is no index then, and none comes about by looking."""
        repo = tmp_path / "bare ground"
        repo.mkdir()
        git(repo, "init", "--quiet")
        git(repo, "commit", "--quiet", "--allow-empty", "-m", "first")
        workspace = plan_git(repo, run_id="R1").open(tmp_path / "run" / "worktree")
        commit(workspace)

        assert started(lambda: commit(workspace, "check")) == ["add"]

    def test_the_process_that_stays_goes_with_the_workspace(
        self, workspace: GitWorkspace, started: Callable[[Callable[[], object]], list[str]]
    ) -> None:
        """A closed workspace holds nothing; one that is used again starts another."""
        commit(workspace)
        workspace.close()

        assert started(lambda: commit(workspace)) == ["add", "update-ref"]
        assert commit(pickle.loads(pickle.dumps(workspace))) == workspace.head()
        workspace.close()


class TestBranch:
    """Commits go to the run's branch, and on top of the last stage's."""

    def test_a_stage_that_switches_branches_commits_to_the_runs(self, workspace: GitWorkspace, git: GitRunner) -> None:
        """Agents make branches of their own. The run's branch gets their files, a warning says where they were."""
        before = commit(workspace, "start")
        git(workspace.path, "switch", "--quiet", "--create", "feature/x")
        (workspace.path / "new.txt").write_text("hi")
        git(workspace.path, "add", ".")
        git(workspace.path, "commit", "--quiet", "-m", "by the agent")
        made = workspace.commit_stage("build", "success")

        assert workspace.head() == made.sha
        assert git(workspace.path, "symbolic-ref", "HEAD") == f"refs/heads/{BRANCH}"
        assert git(workspace.path, "show", f"{BRANCH}:new.txt") == "hi"
        assert git(workspace.path, "log", "--format=%P", "-1", BRANCH) == before
        assert git(workspace.path, "log", "--format=%s", "-1", "feature/x") == "by the agent"
        (warning,) = made.warnings
        assert "branch feature/x" in warning
        assert workspace.commit_stage("check", "success").warnings == ()

    def test_commits_of_the_stage_on_the_runs_branch_stay(self, workspace: GitWorkspace, git: GitRunner) -> None:
        """They follow from the last stage's commit, and the stage's own follows from them."""
        commit(workspace, "start")
        (workspace.path / "new.txt").write_text("hi")
        git(workspace.path, "add", ".")
        git(workspace.path, "commit", "--quiet", "-m", "by the agent")
        made = workspace.commit_stage("build", "success")

        subjects = git(workspace.path, "log", "--format=%s", BRANCH).splitlines()
        assert subjects == ["attractor(R1): build (success)", "by the agent", "attractor(R1): start (success)", "first"]
        assert made.warnings == ()

    @pytest.mark.parametrize("how", [("commit", "--amend", "--quiet", "-m", "mine"), ("reset", "--quiet", "--hard", "HEAD~1")])
    def test_a_branch_that_was_rewritten_goes_on_from_the_last_stages_commit(
        self, workspace: GitWorkspace, git: GitRunner, how: tuple[str, ...]
    ) -> None:
        """A resume goes back to that commit, so it stays in the branch. What the stage made is kept aside."""
        (workspace.path / "one.txt").write_text("one")
        before = commit(workspace, "start")
        (workspace.path / "two.txt").write_text("two")
        git(workspace.path, "add", ".")
        git(workspace.path, *how)
        left = git(workspace.path, "rev-parse", "HEAD")
        files = sorted(path.name for path in workspace.path.iterdir() if path.name != ".git")
        made = workspace.commit_stage("re write", "success")

        assert git(workspace.path, "log", "--format=%P", "-1", made.sha) == before
        assert git(workspace.path, "rev-parse", f"{BRANCH}-left/re-write") == left
        assert sorted({name.split("/")[0] for name in content(git, workspace)}) == files
        (warning,) = made.warnings
        assert f"{BRANCH}-left/re-write" in warning

    def test_what_two_visits_left_is_kept_twice(self, workspace: GitWorkspace, git: GitRunner) -> None:
        """The second does not take the place of the first."""
        commit(workspace, "start")
        for text in ("one", "two"):
            git(workspace.path, "commit", "--amend", "--quiet", "--allow-empty", "-m", text)
            commit(workspace, "a")

        names = ("a", "a-2")
        assert [git(workspace.path, "log", "-1", "--format=%s", f"{BRANCH}-left/{name}") for name in names] == ["one", "two"]

    def test_commits_on_a_detached_head_are_kept(self, workspace: GitWorkspace, git: GitRunner) -> None:
        """No branch holds them, and git would throw them away one day."""
        git(workspace.path, "checkout", "--quiet", "--detach")
        git(workspace.path, "commit", "--quiet", "--allow-empty", "-m", "aside")
        made = workspace.commit_stage("build", "success")

        assert git(workspace.path, "log", "-1", "--format=%s", f"{BRANCH}-left/build") == "aside"
        assert made.sha == workspace.head()
        assert f"{BRANCH}-left/build" in made.warnings[0]

    def test_a_branch_that_was_removed_is_made_again(self, workspace: GitWorkspace, git: GitRunner) -> None:
        """With everything in it."""
        before = commit(workspace, "start")
        git(workspace.path, "switch", "--quiet", "--create", "other")
        git(workspace.path, "branch", "--quiet", "-D", BRANCH)
        made = workspace.commit_stage("build", "success")

        assert workspace.head() == made.sha
        assert git(workspace.path, "log", "--format=%P", "-1", made.sha) == before

    def test_another_repository_in_the_worktree_fails_the_stage(self, workspace: GitWorkspace, git: GitRunner) -> None:
        """``rm -rf .git && git init``: commits there would be nobody's. A resume makes the worktree anew."""
        sha = commit(workspace, "start")
        (workspace.path / ".git").unlink()
        git(workspace.path, "init", "--quiet")

        with pytest.raises(WorkspaceError, match="has been replaced"):
            commit(workspace)
        workspace.restore(sha)
        assert commit(workspace) == workspace.head()

    @pytest.mark.parametrize("how", [("-d",), ("refs/heads/theirs",)])
    @pytest.mark.parametrize("everybody", [True, False])
    def test_branches_are_joined_where_the_runs_branch_was_moved_from_elsewhere(
        self, workspace: GitWorkspace, git: GitRunner, repo: Path, tmp_path: Path, how: tuple[str, ...], everybody: bool
    ) -> None:
        """A stage of a parallel branch can reach the run's branch too. It is put back, and what it named meanwhile is kept."""
        before = commit(workspace, "start")
        branch = workspace.branch_off(tmp_path / "run" / "branch", "p", before)
        (branch.path / "new.txt").write_text("hi")
        theirs = git(branch.path, "commit-tree", "-p", before, "-m", "theirs", f"{before}^{{tree}}")
        git(branch.path, "update-ref", "refs/heads/theirs", theirs)
        made = commit(branch)
        git(branch.path, "update-ref", *([*how, f"refs/heads/{BRANCH}"] if how == ("-d",) else [f"refs/heads/{BRANCH}", *how]))

        if everybody:
            assert workspace.merge(made, "all") == ()
        else:
            assert adopt_branch(workspace, branch.path, made, max_bytes=1, message="winner") == ""
        joined = workspace.commit_stage("join", "success")

        assert git(repo, "show", f"{BRANCH}:new.txt") == "hi"
        (warning,) = joined.warnings
        assert f"branch {BRANCH}; it was put back" in warning
        if how != ("-d",):
            kept = warning.rpartition(" ")[2]
            assert git(repo, "rev-parse", kept) == theirs

    def test_a_merge_goes_to_the_runs_branch_too(
        self, repo: Path, workspace: GitWorkspace, tmp_path: Path, git: GitRunner
    ) -> None:
        """A fan-in comes after whatever has switched the worktree."""
        base = commit(workspace, "fan")
        branch = workspace.branch_off(tmp_path / "branch", "p/a", base)
        (branch.path / "a.txt").write_text("a")
        tip = commit(branch, "a")
        git(workspace.path, "checkout", "--quiet", "--detach")

        assert workspace.merge(tip, "joined") == ()
        assert git(repo, "log", "-1", "--format=%s", BRANCH) == "joined"
        git(workspace.path, "switch", "--quiet", "--create", "other")
        git(branch.path, "switch", "--quiet", "--create", "third")
        workspace.fast_forward(workspace.head())
        (branch.path / "b.txt").write_text("b")
        assert commit(branch, "b") == branch.head() == git(repo, "rev-parse", branch.branch)


class TestUnfinished:
    """Operations of git that a stage left half-way."""

    @pytest.fixture
    def conflict(self, workspace: GitWorkspace, git: GitRunner) -> Callable[..., None]:
        """Begins an operation that stops at a conflict in ``README.md``."""

        def begin(*operation: str) -> None:
            path = workspace.path
            git(path, "switch", "--quiet", "--create", "theirs")
            (path / "README.md").write_text("theirs\n")
            git(path, "commit", "--quiet", "-am", "theirs")
            git(path, "switch", "--quiet", BRANCH)
            (path / "README.md").write_text("ours\n")
            git(path, "commit", "--quiet", "-am", "ours")
            with pytest.raises(Exception, match="returned non-zero"):
                git(path, *operation)

        return begin

    @pytest.mark.parametrize("operation", [("merge", "theirs"), ("cherry-pick", "theirs"), ("rebase", "theirs")])
    def test_files_in_conflict_fail_the_stage_and_are_named(
        self, workspace: GitWorkspace, conflict: Callable[..., None], operation: tuple[str, ...]
    ) -> None:
        """Conflict markers are no result. Nothing is ended yet: another attempt may resolve them."""
        conflict(*operation)

        with pytest.raises(WorkInConflict, match=r"README\.md") as caught:
            commit(workspace)
        assert caught.value.paths == ("README.md",)

    @pytest.mark.parametrize("operation", [("merge", "theirs"), ("cherry-pick", "theirs"), ("rebase", "theirs")])
    def test_a_failed_stage_is_recorded_as_it_is_and_the_operation_is_over(
        self, workspace: GitWorkspace, git: GitRunner, conflict: Callable[..., None], operation: tuple[str, ...]
    ) -> None:
        """The stage of its fail edge finds the files with both sides in them, and no operation around it."""
        conflict(*operation)
        text = (workspace.path / "README.md").read_text()
        sha = commit(workspace, "build", "fail")

        assert (workspace.path / "README.md").read_text() == text
        assert git(workspace.path, "show", f"{sha}:README.md") == text.rstrip("\n")
        assert git(workspace.path, "status", "--porcelain") == ""
        assert len(git(workspace.path, "log", "--format=%P", "-1", sha).split()) == 1
        own = Path(git(workspace.path, "rev-parse", "--absolute-git-dir"))
        left = ("MERGE_HEAD", "CHERRY_PICK_HEAD", "REVERT_HEAD", "rebase-merge", "rebase-apply", "sequencer")
        assert [name for name in left if (own / name).exists()] == []
        assert git(workspace.path, "symbolic-ref", "HEAD") == f"refs/heads/{BRANCH}"

    def test_a_resolved_merge_becomes_a_commit_with_one_parent(
        self, workspace: GitWorkspace, git: GitRunner, conflict: Callable[..., None]
    ) -> None:
        """Resolved and staged, but not committed: the result is the stage's work."""
        conflict("merge", "theirs")
        (workspace.path / "README.md").write_text("both\n")
        git(workspace.path, "add", "README.md")
        sha = commit(workspace)

        assert git(workspace.path, "show", f"{sha}:README.md") == "both"
        assert git(workspace.path, "log", "--format=%s", "-1", f"{sha}^") == "ours"
        assert len(git(workspace.path, "log", "--format=%P", "-1", sha).split()) == 1


class TestNested:
    """Git repositories that a stage leaves inside the worktree."""

    @pytest.mark.parametrize("committed", [True, False])
    def test_their_files_are_committed(self, workspace: GitWorkspace, git: GitRunner, committed: bool) -> None:
        """As content, by their own ignore rules; the inner repository stays where it is."""
        make_repository(workspace.path / "app", git, committed=committed)
        (workspace.path / "beside.txt").write_text("beside")
        made = workspace.commit_stage("scaffold", "success")

        assert {"app/main.py", "app/.gitignore", "beside.txt"} <= set(content(git, workspace))
        assert "app/main.o" not in content(git, workspace)
        assert (workspace.path / "app" / ".git").is_dir()
        (warning,) = made.warnings
        assert warning.startswith("app is a git repository of its own")

    def test_what_later_stages_change_in_them_is_committed(self, workspace: GitWorkspace, git: GitRunner) -> None:
        """Whether they commit it there or not; and nobody is told twice."""
        make_repository(workspace.path / "app", git)
        commit(workspace, "scaffold")
        (workspace.path / "app" / "more.py").write_text("more")
        git(workspace.path / "app", "add", ".")
        git(workspace.path / "app", "commit", "--quiet", "-m", "more")
        (workspace.path / "app" / "main.py").unlink()
        made = workspace.commit_stage("more", "success")

        inside = [name for name in content(git, workspace) if name.startswith("app/")]
        assert inside == ["app/.gitignore", "app/more.py"]
        assert made.warnings == ()

    def test_one_that_the_stage_has_committed_itself_is_taken_apart(self, workspace: GitWorkspace, git: GitRunner) -> None:
        """``git add .`` puts the name of its commit in the place of its files."""
        make_repository(workspace.path / "app", git)
        git(workspace.path, "add", ".")
        git(workspace.path, "commit", "--quiet", "-m", "by the agent")
        commit(workspace)

        assert "app/main.py" in content(git, workspace)

    def test_one_inside_another_is_committed_too(self, workspace: GitWorkspace, git: GitRunner) -> None:
        """A monorepo's generator inside a project's."""
        make_repository(workspace.path / "app", git)
        make_repository(workspace.path / "app" / "lib", git, committed=False)
        commit(workspace)

        assert {"app/main.py", "app/lib/main.py"} <= set(content(git, workspace))

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
    def test_one_of_another_user_is_committed_too(self, workspace: GitWorkspace, git: GitRunner) -> None:
        """A container that a stage runs leaves such. git would not look into it."""
        make_repository(workspace.path / "app", git)
        for path in (workspace.path / "app", workspace.path / "app" / ".git"):
            os.chown(path, 12345, 12345)
        commit(workspace)

        assert {"app/.gitignore", "app/main.py"} <= set(content(git, workspace))

    def test_one_that_cannot_be_read_fails_the_stage_and_is_named(self, workspace: GitWorkspace, git: GitRunner) -> None:
        """Nobody can say which of its files are to be committed."""
        make_repository(workspace.path / "app", git)
        (workspace.path / "app" / ".git" / "index").write_text("junk")
        with pytest.raises(WorkspaceError, match=r"app is a git repository of its own, and it cannot be read: .*index"):
            commit(workspace)

    def test_one_without_files_is_no_reason_to_fail(self, workspace: GitWorkspace, git: GitRunner) -> None:
        """``git init app``: its first file is committed when it is there."""
        (workspace.path / "app").mkdir()
        git(workspace.path / "app", "init", "--quiet")
        (workspace.path / "beside.txt").write_text("beside")
        commit(workspace)
        assert "beside.txt" in content(git, workspace)

        (workspace.path / "app" / "first.txt").write_text("first")
        commit(workspace)
        assert "app/first.txt" in content(git, workspace)

    def test_excluded_globs_hold_inside_them(self, workspace: GitWorkspace, git: GitRunner) -> None:
        """Build output of an agent is no work there either."""
        make_repository(workspace.path / "app", git)
        (workspace.path / "app" / ".cargo-target-1").mkdir()
        (workspace.path / "app" / ".cargo-target-1" / "big").write_text("x")
        commit(workspace)

        assert [name for name in content(git, workspace) if "cargo" in name] == []

    def test_a_restored_worktree_has_their_files(self, workspace: GitWorkspace, git: GitRunner, tmp_path: Path) -> None:
        """So does a branch; a later one is gone with everything else that came after."""
        make_repository(workspace.path / "app", git)
        sha = commit(workspace, "scaffold")
        make_repository(workspace.path / "later", git)
        commit(workspace, "later")
        branch = workspace.branch_off(tmp_path / "branch", "p/a", sha)
        workspace.restore(sha)

        assert (branch.path / "app" / "main.py").read_text() == "code\n"
        assert not (workspace.path / "later").exists()
        assert workspace.tidy(FinalStatus.SUCCESS, KeepWorktree.ON_FAILURE)

    def test_a_submodule_stays_one(self, workspace: GitWorkspace, git: GitRunner, tmp_path: Path) -> None:
        """``.gitmodules`` says where its commit can be had from."""
        make_repository(tmp_path / "lib", git)
        git(workspace.path, "-c", "protocol.file.allow=always", "submodule", "--quiet", "add", str(tmp_path / "lib"), "lib")
        made = workspace.commit_stage("add", "success")

        assert git(workspace.path, "ls-tree", BRANCH, "lib").startswith("160000 commit")
        assert made.warnings == ()

    def test_a_folder_that_was_only_a_commits_name_before_the_run_is_filled(
        self, repo: Path, tmp_path: Path, git: GitRunner
    ) -> None:
        """The name of a commit without ``.gitmodules`` is what an earlier loss looks like: files put there are files."""
        make_repository(repo / "app", git)
        git(repo, "add", "app")
        git(repo, "commit", "--quiet", "-m", "a link")
        workspace = plan_git(repo, run_id="R1").open(tmp_path / "run" / "worktree")
        (workspace.path / "app").rmdir()
        make_repository(workspace.path / "app", git)
        commit(workspace)

        assert "app/main.py" in content(git, workspace)


class TestHooksAndSigning:
    """Hooks are meant for people's commits. A run's would be refused by most of them."""

    @pytest.mark.parametrize(
        "hook", ["pre-commit", "commit-msg", "prepare-commit-msg", "post-checkout", "pre-merge-commit", "reference-transaction"]
    )
    def test_no_hook_runs(self, repo: Path, tmp_path: Path, git: GitRunner, hook: str) -> None:
        """From the worktree to the merge; wherever ``core.hooksPath`` says that they are."""
        hooks = repo / ".husky"
        hooks.mkdir()
        (hooks / hook).write_text(f"#!/bin/sh\necho {hook} >> {tmp_path}/ran\nexit 1\n")
        (hooks / hook).chmod(0o755)
        git(repo, "config", "core.hooksPath", str(hooks))
        workspace = plan_git(repo, run_id="R1").open(tmp_path / "run" / "worktree")
        base = commit(workspace, "fan")
        branch = workspace.branch_off(tmp_path / "branch", "p/a", base)
        (branch.path / "a.txt").write_text("a")

        assert workspace.merge(commit(branch, "a"), "joined") == ()
        workspace.restore(base)
        assert not (tmp_path / "ran").exists()

    def test_nothing_is_signed_unless_it_is_asked_for(self, repo: Path, tmp_path: Path, git: GitRunner) -> None:
        """``commit.gpgsign`` is a person's setting. Asked for, a key that cannot be used refuses the commit."""
        program = tmp_path / "gpg"
        program.write_text(f"#!/bin/sh\necho signed >> {tmp_path}/ran\necho no key >&2\nexit 1\n")
        program.chmod(0o755)
        for key, value in (("commit.gpgSign", "true"), ("gpg.program", str(program)), ("user.signingKey", "ABCDEF")):
            git(repo, "config", key, value)
        workspace = plan_git(repo, run_id="R1").open(tmp_path / "run" / "worktree")
        commit(workspace)
        assert not (tmp_path / "ran").exists()

        signing = plan_git(repo, run_id="R2").open(tmp_path / "run2" / "worktree", sign=True)
        with pytest.raises(WorkspaceError, match="gpg failed to sign"):
            commit(signing)
        assert (tmp_path / "ran").exists()

    def test_a_signed_commit_is_the_stages(self, repo: Path, tmp_path: Path, git: GitRunner) -> None:
        """The signature is what the signing program says."""
        program = tmp_path / "gpg"
        program.write_text(
            "#!/bin/sh\ncat > /dev/null\necho '[GNUPG:] SIG_CREATED ' >&2\n"
            "printf -- '-----BEGIN PGP SIGNATURE-----\\n\\nabc\\n-----END PGP SIGNATURE-----\\n'\n"
        )
        program.chmod(0o755)
        git(repo, "config", "gpg.program", str(program))
        workspace = plan_git(repo, run_id="R1").open(tmp_path / "run" / "worktree", sign=True)
        sha = commit(workspace)

        assert "BEGIN PGP SIGNATURE" in git(repo, "cat-file", "commit", sha)
        assert git(repo, "log", "-1", "--format=%an %s", BRANCH) == "Ada attractor(R1): build (success)"


class TestLocks:
    """Locks of git that are in the way of a commit."""

    @staticmethod
    def lock(workspace: GitWorkspace, git: GitRunner, name: str) -> Path:
        lock = workspace.path / git(workspace.path, "rev-parse", "--git-path", f"{name}.lock")
        lock.touch()
        return lock

    @pytest.mark.parametrize("at", [1, 4_000_000_000], ids=["old", "of a clock ahead"])
    def test_one_of_a_killed_git_is_removed_when_nothing_of_the_stage_lives(
        self, workspace: GitWorkspace, git: GitRunner, at: int
    ) -> None:
        """It would be there for ever, and every later stage would fail."""
        lock = self.lock(workspace, git, "index")
        os.utime(lock, (at, at))

        assert commit(workspace) == workspace.head()

    def test_a_young_one_may_be_an_editors(self, workspace: GitWorkspace, git: GitRunner) -> None:
        """Editors look at a worktree now and then; their git is left a moment to let go."""
        lock = self.lock(workspace, git, "index")
        release = threading.Timer(0.3, lock.unlink)  # fails where somebody else has removed it
        release.start()

        assert commit(workspace) == workspace.head()
        release.join()

    def test_one_of_a_process_at_work_is_waited_for(self, workspace: GitWorkspace, git: GitRunner) -> None:
        """A git that the stage left in the background lets go of it in a moment."""
        lock = self.lock(workspace, git, "index")
        os.utime(lock, (1, 1))
        release = threading.Timer(0.3, lock.unlink)
        release.start()

        assert workspace.commit_stage("build", "success", lambda: True).sha == workspace.head()
        release.join()

    @pytest.mark.parametrize("name", [f"refs/heads/{BRANCH}", "packed-refs"])
    def test_one_in_the_repository_is_waited_for_and_never_removed(
        self, workspace: GitWorkspace, git: GitRunner, name: str
    ) -> None:
        """It belongs to another git: of a person, or of another run."""
        lock = self.lock(workspace, git, name)
        os.utime(lock, (1, 1))
        release = threading.Timer(0.3, lock.unlink)  # fails where somebody else has removed it
        release.start()

        assert commit(workspace) == workspace.head()
        release.join()
        assert not lock.exists()

    def test_one_that_stays_in_the_repository_refuses_the_commit(
        self, workspace: GitWorkspace, git: GitRunner, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The message names it."""
        lock = self.lock(workspace, git, f"refs/heads/{BRANCH}")
        monkeypatch.setattr("kilroy_engine.workspace.git_refs._PATIENT", ("-c", "core.filesRefLockTimeout=10"))

        with pytest.raises(WorkspaceError, match=r"R1\.lock': File exists"):
            commit(workspace)
        assert lock.exists()
        lock.unlink()
        assert commit(workspace) == workspace.head()


class TestRepositories:
    """Kinds of repositories, each as git itself sees the result."""

    @staticmethod
    def check(git: GitRunner, workspace: GitWorkspace) -> None:
        """Two commits, with and without changes; git finds everything whole and the worktree clean."""
        (workspace.path / "new.txt").write_text("new\n")
        first, second = commit(workspace, "build"), commit(workspace, "check")
        assert git(workspace.path, "rev-parse", BRANCH, f"{BRANCH}^").splitlines() == [second, first]
        assert git(workspace.path, "show", f"{BRANCH}:new.txt") == "new"
        assert git(workspace.path, "status", "--porcelain") == ""
        git(workspace.path, "fsck", "--strict", "--no-dangling")

    def test_sha_256(self, tmp_path: Path, git: GitRunner) -> None:
        """Ids are 64 digits long."""
        repo = tmp_path / "long"
        repo.mkdir()
        git(repo, "init", "--quiet", "--object-format=sha256")
        git(repo, "commit", "--quiet", "--allow-empty", "-m", "first")
        workspace = plan_git(repo, run_id="R1").open(tmp_path / "run" / "worktree")
        self.check(git, workspace)
        (workspace.path / "app").mkdir()
        git(workspace.path / "app", "init", "--quiet", "--object-format=sha256")
        assert commit(workspace) == workspace.head()

    def test_packed_refs(self, repo: Path, workspace: GitWorkspace, git: GitRunner) -> None:
        """No file has the branch's name, before the first commit and between two."""
        git(repo, "pack-refs", "--all", "--prune")
        commit(workspace)
        git(repo, "pack-refs", "--all", "--prune")
        git(repo, "gc", "--quiet", "--prune=now")
        self.check(git, workspace)

    def test_packed_refs_that_git_takes_for_others(self, repo: Path, workspace: GitWorkspace, git: GitRunner) -> None:
        """The git that stays compares inode, size and second: a file that is another one all the same must not fail a stage."""
        packed, kept = repo / ".git" / "packed-refs", repo / ".git" / "packed-refs.kept"
        commit(workspace)
        git(repo, "pack-refs", "--all", "--prune")
        os.link(packed, kept)
        known = packed.stat()
        commit(workspace)
        git(repo, "pack-refs", "--all", "--prune")
        with kept.open("r+b") as same_inode:
            same_inode.write(packed.read_bytes())
        kept.replace(packed)
        os.utime(packed, ns=(known.st_atime_ns, known.st_mtime_ns))
        assert (packed.stat().st_ino, packed.stat().st_size) == (known.st_ino, known.st_size)
        self.check(git, workspace)

    @pytest.mark.parametrize(
        "settings",
        [
            {"core.splitIndex": "true"},
            {"core.untrackedCache": "true", "index.version": "4"},
            {"extensions.worktreeConfig": "true"},
            {"core.fsmonitor": "true"},
            {"core.sharedRepository": "group"},
            {"core.autocrlf": "input", "core.logAllRefUpdates": "always"},
            {"advice.addEmbeddedRepo": "false", "status.showUntrackedFiles": "no", "add.ignoreErrors": "true"},
        ],
        ids=",".join,
    )
    def test_settings(self, repo: Path, tmp_path: Path, git: GitRunner, settings: dict[str, str]) -> None:
        """Settings of people change nothing about what is committed."""
        for key, value in settings.items():
            git(repo, "config", key, value)
        workspace = plan_git(repo, run_id="R1").open(tmp_path / "run" / "worktree")
        make_repository(workspace.path / "app", git, committed=False)
        self.check(git, workspace)
        assert "app/main.py" in content(git, workspace)

    def test_settings_of_one_worktree(self, repo: Path, workspace: GitWorkspace, git: GitRunner) -> None:
        """An identity that was given to the worktree alone."""
        git(repo, "config", "extensions.worktreeConfig", "true")
        git(workspace.path, "config", "--worktree", "user.name", "Zoë Ångström")
        self.check(git, workspace)

        assert git(repo, "log", "-1", "--format=%an", BRANCH) == "Zoë Ångström"

    def test_filters(self, repo: Path, tmp_path: Path, git: GitRunner) -> None:
        """What attributes send through a filter is stored filtered and checked out as it was (LFS works so)."""
        (repo / ".gitattributes").write_text("*.bin filter=lfs diff=lfs merge=lfs -text\n")
        git(repo, "add", "-A")
        git(repo, "commit", "--quiet", "-m", "attributes")
        for key, value in (("clean", "tr a-z A-Z"), ("smudge", "tr A-Z a-z"), ("required", "true")):
            git(repo, "config", f"filter.lfs.{key}", value)
        workspace = plan_git(repo, run_id="R1").open(tmp_path / "run" / "worktree")
        (workspace.path / "x.bin").write_text("content\n")
        self.check(git, workspace)

        assert git(repo, "cat-file", "blob", f"{BRANCH}:x.bin") == "CONTENT"
        workspace.restore(workspace.head())
        assert (workspace.path / "x.bin").read_text() == "content\n"

    def test_a_filter_that_fails_refuses_the_commit(self, repo: Path, workspace: GitWorkspace, git: GitRunner) -> None:
        """A required filter that is not installed would lose the file; what it says reaches the user."""
        git(repo, "config", "filter.lfs.clean", "echo no lfs here >&2; exit 1")
        git(repo, "config", "filter.lfs.required", "true")
        (workspace.path / ".gitattributes").write_text("*.bin filter=lfs\n")
        (workspace.path / "x.bin").write_text("content\n")

        with pytest.raises(WorkspaceError, match="no lfs here"):
            commit(workspace)

    def test_sparse_checkouts(self, repo: Path, workspace: GitWorkspace, git: GitRunner) -> None:
        """New and changed files outside of the chosen folders are work as well; those that are not there stay as they were."""
        git(workspace.path, "sparse-checkout", "set", "src")
        (workspace.path / "docs").mkdir()
        (workspace.path / "docs" / "new.md").write_text("new")
        (workspace.path / "src" / "app.py").write_text("changed")
        commit(workspace)

        assert content(git, workspace) == ["README.md", "docs/new.md", "src/app.py"]
        assert git(repo, "show", f"{BRANCH}:docs/new.md") == "new"

    def test_names_and_texts_in_any_script(self, workspace: GitWorkspace, git: GitRunner) -> None:
        """Commit messages are UTF-8 and of one line; file names may hold anything."""
        for name in ("naïve ☃.txt", "tab\tnew\nline", "-dash"):
            (workspace.path / name).write_text("x")
        (workspace.path / os.fsdecode(b"\xff.txt")).write_text("x")
        sha = commit(workspace, "bäuen", "doné\nwell")

        assert git(workspace.path, "log", "-1", "--format=%B", sha) == "attractor(R1): bäuen (doné well)"
        assert len(content(git, workspace)) == 6
