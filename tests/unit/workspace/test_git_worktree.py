"""Git runs: the branch, the worktree, one commit per stage, and a checkout that nobody touches."""

from __future__ import annotations

import resource
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from kilroy_engine.errors import WorkspaceError
from kilroy_engine.traversal.outcome import FinalStatus
from kilroy_engine.workspace import GitWorkspace, KeepWorktree, WorkspaceFacts, plan_git, reopen_workspace
from kilroy_engine.workspace.kilroy_folder import KilroyFolder

GitRunner = Callable[..., str]


@pytest.fixture
def workspace(repo: Path, tmp_path: Path) -> GitWorkspace:
    """A run's worktree, just begun."""
    return plan_git(repo, run_id="R1").open(tmp_path / "run" / "worktree")


def test_a_run_gets_a_branch_from_head_and_a_worktree_with_the_committed_files(
    repo: Path, workspace: GitWorkspace, git: GitRunner
) -> None:
    """The branch is ``attractor/run/<run id>`` (Kilroy: branch names)."""
    assert workspace.branch == "attractor/run/R1"
    assert workspace.base_sha == git(repo, "rev-parse", "main") == git(repo, "rev-parse", "attractor/run/R1")
    assert (workspace.path / "src" / "app.py").read_text() == "print('hello')\n"
    assert git(workspace.path, "symbolic-ref", "HEAD") == "refs/heads/attractor/run/R1"
    assert git(workspace.path, "status", "--porcelain") == ""


def test_every_stage_is_one_commit_even_when_nothing_changed(workspace: GitWorkspace, git: GitRunner) -> None:
    """The subject is ``attractor(<run id>): <node> (<status>)``, newest first as Kilroy's recorded runs show it."""
    (workspace.path / "new.txt").write_text("new")
    (workspace.path / "README.md").unlink()
    first = workspace.commit_stage("build", "success").sha
    second = workspace.commit_stage("check", "fail").sha

    subjects = git(workspace.path, "log", "--format=%s").splitlines()
    assert subjects == ["attractor(R1): check (fail)", "attractor(R1): build (success)", "first"]
    assert git(workspace.path, "log", "--format=%H").splitlines()[:2] == [second, first]
    assert git(workspace.path, "show", "--name-status", "--format=", first).splitlines() == ["D\tREADME.md", "A\tnew.txt"]
    assert workspace.head() == second


def test_the_checkout_its_index_and_its_uncommitted_work_stay_as_they_are(repo: Path, tmp_path: Path, git: GitRunner) -> None:
    """Neither the files nor the index nor HEAD of the user's checkout change, and their work is not carried over."""
    (repo / "README.md").write_text("# Unfinished\n")
    (repo / "staged.txt").write_text("staged")
    git(repo, "add", "staged.txt")
    (repo / "untracked.txt").write_text("untracked")
    index = repo / ".git" / "index"
    before = (git(repo, "status", "--porcelain"), index.read_bytes(), index.stat().st_mtime_ns, git(repo, "rev-parse", "HEAD"))

    workspace = plan_git(repo, run_id="R1").open(tmp_path / "run" / "worktree")
    (workspace.path / "made.txt").write_text("made")
    workspace.commit_stage("build", "success")
    workspace.tidy(FinalStatus.SUCCESS, KeepWorktree.ON_FAILURE)

    # The index goes first: a plain status may rewrite it.
    assert (index.read_bytes(), index.stat().st_mtime_ns) == before[1:3]
    assert git(repo, "status", "--porcelain") == before[0]
    assert git(repo, "rev-parse", "HEAD") == before[3]
    assert not (workspace.path / "untracked.txt").exists()


@pytest.mark.slow  # times say nothing beside other tests; how many git processes a commit starts is counted exactly elsewhere
def test_a_stage_commit_among_5000_files_costs_no_more_than_add_and_commit(tmp_path: Path, git: GitRunner) -> None:
    """CPU time, of git's processes too, against git alone in the same worktree, best of four. The allowance is for the start of
    processes."""
    repo = tmp_path / "large"
    for number in range(5000):
        file = repo / f"d{number // 100}" / f"f{number}"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("all alike: one object is enough")
    git(repo, "init", "--quiet")
    git(repo, "add", "-A")
    git(repo, "commit", "--quiet", "-m", "first")
    workspace = plan_git(repo, run_id="R1").open(tmp_path / "run" / "worktree")

    def plain() -> None:
        git(workspace.path, "add", "-A")
        git(workspace.path, "commit", "--quiet", "--allow-empty", "-m", "plain")

    def best_s(commit: Callable[[], object], text: str) -> float:
        took_s = []
        for attempt in range(4):
            (workspace.path / "d1" / "f100").write_text(f"{text} {attempt}")
            began = _cpu_s()
            commit()
            took_s.append(_cpu_s() - began)
        return min(took_s)

    # Ours first: after a git of somebody else's the index is looked at once more.
    ours_s = best_s(lambda: workspace.commit_stage("build", "success"), "ours")
    assert ours_s < best_s(plain, "plain") * 1.5 + 0.02


def _cpu_s() -> float:
    """CPU time of this process and of those that it has waited for: a busy machine does not change it much."""
    spent = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(used.ru_utime + used.ru_stime for used in spent)


def test_commits_carry_the_identity_that_git_is_set_to(workspace: GitWorkspace, git: GitRunner) -> None:
    """A person's runs are a person's commits."""
    workspace.commit_stage("build", "success")

    assert git(workspace.path, "log", "-1", "--format=%an <%ae> %cn") == "Ada <ada@example.org> Ada"


def test_commits_fall_back_to_an_identity_of_ours_where_git_has_none(
    workspace: GitWorkspace, known_git_settings: Path, git: GitRunner
) -> None:
    """Kilroy's fallback identity, for machines where nobody told git a name."""
    known_git_settings.write_text("[user]\n\tuseConfigOnly = true\n")
    workspace.commit_stage("build", "success")
    workspace.commit_stage("check", "success")

    assert git(workspace.path, "log", "-2", "--format=%an <%ae>").splitlines() == [
        "kilroy-attractor <kilroy-attractor@local>",
        "kilroy-attractor <kilroy-attractor@local>",
    ]


def test_kilroy_files_reach_no_commit_and_no_file_of_the_project(repo: Path, workspace: GitWorkspace, git: GitRunner) -> None:
    """``.kilroy`` hides itself: neither ``.gitignore`` nor the repository's exclude file is edited for it."""
    exclude = repo / ".git" / "info" / "exclude"
    before = exclude.read_text() if exclude.exists() else ""
    KilroyFolder(workspace.path).prepare({"name": "Ada"})
    workspace.commit_stage("start", "success")

    assert git(workspace.path, "ls-files") == "README.md\nsrc/app.py"
    assert git(workspace.path, "status", "--porcelain") == ""
    assert (exclude.read_text() if exclude.exists() else "") == before


@pytest.mark.parametrize("as_link", [False, True])
def test_kilroy_files_that_the_repository_tracks_stay_as_they_are_in_all_commits(
    repo: Path, tmp_path: Path, git: GitRunner, as_link: bool
) -> None:
    """What the engine writes there is no work: branches would be in conflict over the task that each was told. So it is when a
    stage commits everything that it finds; and a worktree that was put back is written to again."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    if as_link:
        (repo / ".kilroy").symlink_to(elsewhere)
    else:
        (repo / ".kilroy").mkdir()
        (repo / ".kilroy" / "INPUT.md").write_text("the repository's")
    git(repo, "add", "--force", ".kilroy")
    git(repo, "commit", "--quiet", "-m", "with .kilroy")
    workspace = plan_git(repo, run_id="R1").open(tmp_path / "run" / "worktree")
    tracked = git(repo, "ls-tree", "-r", "HEAD", ".kilroy")

    for stage in ("start", "build"):
        KilroyFolder(workspace.path).prepare({"name": "Ada"})
        (workspace.path / f"{stage}.txt").write_text("work")
        workspace.commit_stage(stage, "success")
    git(workspace.path, "add", "--all", "--force")
    git(workspace.path, "commit", "--quiet", "--allow-empty", "-m", "by the stage")
    sha = workspace.commit_stage("check", "success").sha
    workspace.restore(sha)
    KilroyFolder(workspace.path).prepare({"name": "Ada"})

    assert git(repo, "ls-tree", "-r", sha, ".kilroy") == tracked
    assert git(repo, "ls-tree", "--name-only", sha, "build.txt") == "build.txt"
    assert "Ada" in (workspace.path / ".kilroy" / "INPUT.md").read_text()
    assert list(elsewhere.iterdir()) == []
    assert workspace.tidy(FinalStatus.SUCCESS, KeepWorktree.ON_FAILURE)


def test_excluded_globs_reach_no_commit(repo: Path, tmp_path: Path, git: GitRunner) -> None:
    """The defaults are Kilroy's; a list of one's own replaces them."""
    workspace = plan_git(repo, run_id="R1").open(tmp_path / "run" / "worktree", exclude_globs=("**/build/**",))
    for name in ("build/a.o", "src/build/b.o", "src/c.py"):
        target = workspace.path / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text("x")
    workspace.commit_stage("compile", "success")

    assert git(workspace.path, "show", "--name-only", "--format=").splitlines() == ["src/c.py"]


def test_default_excludes_keep_cargo_targets_out(workspace: GitWorkspace, git: GitRunner) -> None:
    """Kilroy's artifact policy: private build folders of agents are no work."""
    (workspace.path / ".cargo-target-1" / "debug").mkdir(parents=True)
    (workspace.path / ".cargo-target-1" / "debug" / "app").write_text("x")
    workspace.commit_stage("compile", "success")

    assert git(workspace.path, "show", "--name-only", "--format=") == ""


def test_ignored_files_are_not_copied_into_the_worktree(repo: Path, tmp_path: Path, git: GitRunner) -> None:
    """What git ignores (secrets, dependencies) stays where it is."""
    (repo / ".gitignore").write_text(".env\n")
    git(repo, "add", ".gitignore")
    git(repo, "commit", "--quiet", "-m", "ignore")
    (repo / ".env").write_text("TOKEN=secret")
    workspace = plan_git(repo, run_id="R1").open(tmp_path / "run" / "worktree")

    assert not (workspace.path / ".env").exists()


def test_eight_runs_at_once_over_one_repository_all_begin_and_commit(repo: Path, tmp_path: Path, git: GitRunner) -> None:
    """Neither the list of worktrees nor the branches get in each other's way."""

    def one_run(number: int) -> str:
        workspace = plan_git(repo, run_id=f"R{number}").open(tmp_path / f"run{number}" / "worktree")
        shas = []
        for stage in ("start", "build", "exit"):
            (workspace.path / f"{number}-{stage}").write_text(stage)
            shas.append(workspace.commit_stage(stage, "success").sha)
        assert workspace.tidy(FinalStatus.SUCCESS, KeepWorktree.ON_FAILURE)
        return shas[-1]

    with ThreadPoolExecutor(8) as pool:
        last = list(pool.map(one_run, range(8)))

    assert [git(repo, "rev-parse", f"attractor/run/R{number}") for number in range(8)] == last
    assert len(git(repo, "worktree", "list").splitlines()) == 1


def test_a_worktree_that_lost_its_git_never_lets_a_commit_loose_on_a_repository_around_it(repo: Path, git: GitRunner) -> None:
    """With run directories inside a checkout, a stage that deletes ``.git`` must not make us commit to that checkout."""
    workspace = plan_git(repo, run_id="R1").open(repo / "runs" / "R1" / "worktree")
    (workspace.path / ".git").unlink()
    before = git(repo, "rev-parse", "HEAD")

    with pytest.raises(WorkspaceError, match=r"\.git is gone"):
        workspace.commit_stage("build", "success")
    assert git(repo, "rev-parse", "HEAD") == before
    assert git(repo, "diff", "--cached", "--name-only") == ""


def test_git_variables_of_a_surrounding_hook_lead_no_command_astray(
    repo: Path, tmp_path: Path, git: GitRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Started from a git hook, the engine inherits GIT_DIR and GIT_INDEX_FILE of another repository."""
    other = tmp_path / "other"
    other.mkdir()
    git(other, "init", "--quiet")
    monkeypatch.setenv("GIT_DIR", str(other / ".git"))
    monkeypatch.setenv("GIT_WORK_TREE", str(other))
    monkeypatch.setenv("GIT_INDEX_FILE", str(other / ".git" / "index"))
    workspace = plan_git(repo, run_id="R1").open(tmp_path / "run" / "worktree")
    (workspace.path / "new.txt").write_text("new")
    sha = workspace.commit_stage("build", "success").sha
    for name in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"):
        monkeypatch.delenv(name)

    assert git(repo, "rev-parse", "attractor/run/R1") == sha
    assert not (other / ".git" / "index").exists()


def test_head_is_right_when_refs_are_packed(repo: Path, workspace: GitWorkspace, git: GitRunner) -> None:
    """git may pack refs at any time; then no file of the branch's name holds its commit."""
    sha = workspace.commit_stage("build", "success").sha
    git(repo, "pack-refs", "--all")

    assert workspace.head() == sha


def test_a_fresh_process_goes_on_from_the_manifests_facts(workspace: GitWorkspace, git: GitRunner) -> None:
    """Commits, head and tidying need nothing but what the manifest keeps."""
    facts = WorkspaceFacts("R1", workspace.path, workspace.facts.repo_path, workspace.branch, workspace.base_sha)
    again = reopen_workspace(facts)

    sha = again.commit_stage("build", "success").sha
    assert again.head() == sha
    assert git(workspace.path, "log", "-1", "--format=%s") == "attractor(R1): build (success)"
    assert again.tidy(FinalStatus.SUCCESS, KeepWorktree.ON_FAILURE)


class TestTidy:
    """What is left of a worktree at the end of its run."""

    @pytest.mark.parametrize(
        ("status", "keep", "gone"),
        [
            (FinalStatus.SUCCESS, KeepWorktree.ON_FAILURE, True),
            (FinalStatus.FAIL, KeepWorktree.ON_FAILURE, False),
            (FinalStatus.CANCELED, KeepWorktree.ON_FAILURE, False),
            (FinalStatus.SUCCESS, KeepWorktree.ALWAYS, False),
            (FinalStatus.FAIL, KeepWorktree.NEVER, True),
        ],
    )
    def test_keep_worktree_decides(
        self, workspace: GitWorkspace, git: GitRunner, repo: Path, status: FinalStatus, keep: KeepWorktree, gone: bool
    ) -> None:
        """``on_failure`` keeps what did not succeed, ``always`` all, ``never`` none; the branch stays in any case."""
        sha = workspace.commit_stage("exit", "success").sha

        assert workspace.tidy(status, keep) is gone
        assert workspace.path.exists() is not gone
        assert workspace.head() == git(repo, "rev-parse", "attractor/run/R1") == sha
        assert len(git(repo, "worktree", "list").splitlines()) == (1 if gone else 2)

    def test_uncommitted_work_keeps_the_worktree(self, workspace: GitWorkspace) -> None:
        """Work that exists nowhere else is not thrown away."""
        workspace.commit_stage("exit", "success")
        (workspace.path / "late.txt").write_text("late")

        assert not workspace.tidy(FinalStatus.SUCCESS, KeepWorktree.ON_FAILURE)
        assert (workspace.path / "late.txt").exists()

    def test_ignored_files_do_not_keep_the_worktree(self, workspace: GitWorkspace) -> None:
        """Ignored and excluded files are by-products."""
        (workspace.path / ".gitignore").write_text("*.pyc\n")
        workspace.commit_stage("exit", "success")
        (workspace.path / "a.pyc").write_text("x")
        KilroyFolder(workspace.path).prepare({})

        assert workspace.tidy(FinalStatus.SUCCESS, KeepWorktree.ON_FAILURE)
        assert not workspace.path.exists()

    def test_another_branch_checked_out_keeps_the_worktree(self, workspace: GitWorkspace, git: GitRunner) -> None:
        """What was switched after the last commit may have left commits there that the run's branch does not hold."""
        workspace.commit_stage("exit", "success")
        git(workspace.path, "checkout", "--quiet", "--detach")

        assert not workspace.tidy(FinalStatus.SUCCESS, KeepWorktree.ON_FAILURE)

    def test_a_second_tidy_changes_nothing(self, workspace: GitWorkspace) -> None:
        """A finalizer that died half-way is finished by the next one."""
        assert workspace.tidy(FinalStatus.SUCCESS, KeepWorktree.ON_FAILURE)
        assert workspace.tidy(FinalStatus.SUCCESS, KeepWorktree.ON_FAILURE)

    def test_a_worktree_that_somebody_locked_is_kept(self, workspace: GitWorkspace, git: GitRunner, repo: Path) -> None:
        """``git worktree lock`` is a person's word."""
        git(repo, "worktree", "lock", str(workspace.path))

        assert not workspace.tidy(FinalStatus.SUCCESS, KeepWorktree.NEVER)
        assert (workspace.path / "README.md").exists()


class TestRestore:
    """A resume goes back to the commit of the checkpoint."""

    def test_later_commits_and_half_done_work_are_dropped(self, workspace: GitWorkspace, git: GitRunner) -> None:
        """Branch and files are as the stage of the checkpoint left them."""
        (workspace.path / "good.txt").write_text("good")
        sha = workspace.commit_stage("build", "success").sha
        (workspace.path / "good.txt").write_text("bad")
        workspace.commit_stage("check", "success")
        (workspace.path / "half.txt").write_text("half")
        workspace.restore(sha)

        assert workspace.head() == sha == git(workspace.path, "rev-parse", "attractor/run/R1")
        assert (workspace.path / "good.txt").read_text() == "good"
        assert not (workspace.path / "half.txt").exists()
        assert workspace.commit_stage("check", "success").sha == workspace.head()

    def test_a_removed_worktree_is_made_anew(self, workspace: GitWorkspace, git: GitRunner) -> None:
        """Also when the folder went away without git's knowledge."""
        sha = workspace.commit_stage("build", "success").sha
        workspace.path.rename(workspace.path.with_name("elsewhere"))
        workspace.restore(sha)

        assert (workspace.path / "src" / "app.py").exists()
        assert git(workspace.path, "symbolic-ref", "HEAD") == "refs/heads/attractor/run/R1"

    def test_a_lock_of_a_killed_git_is_broken(self, workspace: GitWorkspace, git: GitRunner) -> None:
        """A SIGKILL in the middle of a commit leaves ``index.lock`` behind for good."""
        sha = workspace.commit_stage("build", "success").sha
        for name in ("index.lock", "HEAD.lock", "refs/heads/attractor/run/R1.lock"):
            Path(workspace.path / git(workspace.path, "rev-parse", "--git-path", name)).touch()
        workspace.restore(sha)

        assert workspace.commit_stage("check", "success").sha == workspace.head()

    def test_a_commit_that_the_repository_does_not_have_is_an_error(self, workspace: GitWorkspace) -> None:
        """A checkpoint of another repository is not applied."""
        with pytest.raises(WorkspaceError, match="commit 0123456789abcdef0123456789abcdef01234567 of run R1 is not in"):
            workspace.restore("0123456789abcdef0123456789abcdef01234567")


def test_an_abandoned_run_leaves_its_id_free(repo: Path, workspace: GitWorkspace, git: GitRunner) -> None:
    """A run that cannot begin after all leaves neither worktree nor branch."""
    workspace.abandon()

    assert git(repo, "branch", "--list", "attractor/*") == ""
    assert not workspace.path.exists()
    assert plan_git(repo, run_id="R1").branch == workspace.branch
