"""What is checked before a git run begins, and that nothing is made when it cannot."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from kilroy_engine.errors import WorkspaceError
from kilroy_engine.workspace import find_repository, plan_git
from kilroy_engine.workspace.base import Submodules

GitRunner = Callable[..., str]


def test_the_repository_is_found_from_any_folder_below(repo: Path, tmp_path: Path) -> None:
    """``--repo`` defaults to the repository around the current folder."""
    assert find_repository(repo / "src") == repo
    assert find_repository(tmp_path) is None
    assert plan_git(repo / "src", run_id="R1").repo_path == repo


@pytest.mark.parametrize("dirt", ["README.md", "untracked.txt"])
def test_require_clean_refuses_uncommitted_work_and_names_it(repo: Path, dirt: str, git: GitRunner) -> None:
    """Kilroy's text, the files, and what to do; no branch is made."""
    (repo / dirt).write_text("changed")

    with pytest.raises(WorkspaceError, match=r"repo has uncommitted changes \(require_clean=true\): ") as caught:
        plan_git(repo, run_id="R1", require_clean=True)
    assert dirt in str(caught.value)
    assert git(repo, "branch", "--list", "attractor/*") == ""
    assert plan_git(repo, run_id="R1").branch == "attractor/run/R1"


def test_require_clean_lets_a_clean_repository_pass(repo: Path) -> None:
    """Ignored files are no uncommitted work."""
    (repo / ".git" / "info").mkdir(exist_ok=True)
    (repo / ".git" / "info" / "exclude").write_text("cache\n")
    (repo / "cache").write_text("x")

    assert plan_git(repo, run_id="R1", require_clean=True).base_sha


def test_a_repository_without_commits_is_refused(tmp_path: Path, git: GitRunner) -> None:
    """There is nothing that a branch could begin at."""
    git(tmp_path, "init", "--quiet", "empty")

    with pytest.raises(WorkspaceError, match=r"repo has no commits or HEAD is unresolvable: .*empty; make a first commit"):
        plan_git(tmp_path / "empty", run_id="R1")


def test_a_folder_outside_of_any_repository_is_refused(tmp_path: Path) -> None:
    """The message says which two ways there are."""
    with pytest.raises(WorkspaceError, match="is not in a git repository; name one with --repo, or run with --no-git"):
        plan_git(tmp_path, run_id="R1")


def test_a_folder_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    """A mistyped path is not a repository further up."""
    with pytest.raises(WorkspaceError, match="nowhere is not a folder"):
        plan_git(tmp_path / "nowhere", run_id="R1")


def test_a_bare_repository_is_refused(tmp_path: Path, git: GitRunner) -> None:
    """There is no checkout whose HEAD a run could begin at."""
    git(tmp_path, "init", "--quiet", "--bare", "bare.git")

    with pytest.raises(WorkspaceError, match="is a bare repository"):
        plan_git(tmp_path / "bare.git", run_id="R1")


def test_a_run_id_whose_branch_exists_is_refused_before_anything_is_made(repo: Path, tmp_path: Path, git: GitRunner) -> None:
    """Kilroy fails half-way here and spoils the earlier run's records."""
    workspace = plan_git(repo, run_id="R1").open(tmp_path / "run" / "worktree")
    sha = workspace.commit_stage("build", "success").sha

    with pytest.raises(WorkspaceError, match="branch attractor/run/R1 exists: run id R1 was used in"):
        plan_git(repo, run_id="R1")
    assert git(repo, "rev-parse", "attractor/run/R1") == sha


def test_a_prefix_that_makes_no_branch_name_is_refused(repo: Path) -> None:
    """Before git is asked to make it."""
    with pytest.raises(WorkspaceError, match="cannot be the name of a git branch"):
        plan_git(repo, run_id="R1", branch_prefix="my run")


def test_a_begin_that_fails_half_way_is_taken_back(repo: Path, tmp_path: Path, git: GitRunner) -> None:
    """A checkout that breaks (here: a filter that fails) leaves neither branch nor worktree, so the run id is free again."""
    (repo / ".gitattributes").write_text("*.bin filter=broken\n")
    (repo / "a.bin").write_text("x")
    git(repo, "add", "-A")
    git(repo, "commit", "--quiet", "-m", "with a filter")
    git(repo, "config", "filter.broken.smudge", "false")
    git(repo, "config", "filter.broken.required", "true")

    with pytest.raises(WorkspaceError, match="smudge filter"):
        plan_git(repo, run_id="R1").open(tmp_path / "run" / "worktree")
    assert git(repo, "branch", "--list", "attractor/*") == ""
    assert len(git(repo, "worktree", "list").splitlines()) == 1
    assert not (tmp_path / "run" / "worktree").exists()


def test_a_worktree_folder_that_is_in_use_is_refused(repo: Path, tmp_path: Path, git: GitRunner) -> None:
    """Somebody's files are not mixed with the run's."""
    target = tmp_path / "run" / "worktree"
    target.mkdir(parents=True)
    (target / "mine.txt").write_text("mine")

    with pytest.raises(WorkspaceError, match="already exists"):
        plan_git(repo, run_id="R1").open(target)
    assert (target / "mine.txt").exists()
    assert git(repo, "branch", "--list", "attractor/*") == ""


def test_a_machine_without_git_says_so(repo: Path) -> None:
    """In a process of its own: GitPython looks for git when it is imported."""
    program = (
        "import sys; from pathlib import Path; from kilroy_engine.workspace import plan_git\n"
        "from kilroy_engine.errors import WorkspaceError\n"
        "try: plan_git(Path(sys.argv[1]), run_id='R1')\n"
        "except WorkspaceError as error: print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(repo)],
        env={"PATH": "", "PYTHONPATH": ":".join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
    )

    assert done.stdout.strip() == "git is not installed or not on PATH; install it, or run without a repository (--no-git)"


class TestSubmodules:
    """A worktree has the folders of submodules, and nothing in them."""

    @pytest.fixture
    def with_submodule(self, repo: Path, tmp_path: Path, git: GitRunner) -> Path:
        library = tmp_path / "library"
        library.mkdir()
        git(library, "init", "--quiet")
        git(library, "commit", "--quiet", "--allow-empty", "-m", "first")
        git(repo, "-c", "protocol.file.allow=always", "submodule", "--quiet", "add", str(library), "lib/one")
        git(repo, "commit", "--quiet", "-m", "library")
        return repo

    def test_they_are_told_in_one_sentence(self, with_submodule: Path) -> None:
        """Which they are, and what fills them."""
        (warning,) = plan_git(with_submodule, run_id="R1").warnings

        assert "has submodules (lib/one)" in warning
        assert "git submodule update --init" in warning

    def test_they_can_be_refused(self, with_submodule: Path, git: GitRunner) -> None:
        """Before anything is made."""
        with pytest.raises(WorkspaceError, match=r"has submodules \(lib/one\)"):
            plan_git(with_submodule, run_id="R1", submodules=Submodules.REFUSE)
        assert git(with_submodule, "branch", "--list", "attractor/*") == ""

    def test_they_can_be_accepted(self, with_submodule: Path) -> None:
        """By somebody who fills them with a set-up command."""
        assert plan_git(with_submodule, run_id="R1", submodules=Submodules.ACCEPT).warnings == ()

    def test_a_repository_without_them_is_told_nothing(self, repo: Path) -> None:
        """Whatever the setting is."""
        assert plan_git(repo, run_id="R1", submodules=Submodules.REFUSE).warnings == ()
