"""Sending the run's branch to a remote."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from kilroy_engine.workspace import GitWorkspace, plan_git

GitRunner = Callable[..., str]


@pytest.fixture
def workspace(repo: Path, tmp_path: Path) -> GitWorkspace:
    """A run's worktree with one stage committed."""
    opened = plan_git(repo, run_id="R1").open(tmp_path / "run" / "worktree")
    opened.commit_stage("build", "success")
    return opened


def test_the_branch_arrives_at_the_remote_and_nothing_else_does(
    repo: Path, workspace: GitWorkspace, tmp_path: Path, git: GitRunner
) -> None:
    """One branch is pushed, under its own name; pushing again is no failure."""
    git(tmp_path, "init", "--quiet", "--bare", "remote.git")
    git(repo, "remote", "add", "origin", str(tmp_path / "remote.git"))

    assert workspace.push("origin").ok
    assert workspace.push("origin").ok
    assert git(tmp_path / "remote.git", "for-each-ref", "--format=%(refname) %(objectname)") == (
        f"refs/heads/attractor/run/R1 {workspace.head()}"
    )


def test_a_push_still_works_when_the_worktree_is_gone(
    repo: Path, workspace: GitWorkspace, tmp_path: Path, git: GitRunner
) -> None:
    """The branch is the repository's: a late finalizer can push it."""
    git(tmp_path, "init", "--quiet", "--bare", "remote.git")
    workspace.discard()

    assert workspace.push(str(tmp_path / "remote.git")).ok


def test_a_missing_remote_is_a_value_with_gits_reason(workspace: GitWorkspace) -> None:
    """A push that fails must not fail the run."""
    result = workspace.push("nowhere")

    assert not result.ok
    assert (result.remote, result.branch) == ("nowhere", "attractor/run/R1")
    assert "'nowhere' does not appear to be a git repository" in result.error


def test_a_remote_that_never_answers_is_given_up_with_all_its_processes(
    workspace: GitWorkspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The limit holds for git and for what it started."""
    pid_file = tmp_path / "pid"
    fake_ssh = tmp_path / "ssh"
    fake_ssh.write_text(f"#!/bin/sh\necho $$ > {pid_file}\nexec sleep 60\n")
    fake_ssh.chmod(0o755)
    monkeypatch.setenv("GIT_SSH_COMMAND", str(fake_ssh))
    began = time.monotonic()
    result = workspace.push("ssh://example.org/project.git", timeout_s=1.0)

    assert "did not end within 1 s" in result.error
    assert time.monotonic() - began < 10
    assert _ends_soon(int(pid_file.read_text()))


def test_passwords_in_a_remotes_address_are_not_told(workspace: GitWorkspace) -> None:
    """The error goes to the progress log, which others read."""
    result = workspace.push("https://user:hunter2@127.0.0.1:1/project.git", timeout_s=20.0)

    assert not result.ok
    assert "hunter2" not in result.error


def _ends_soon(pid: int) -> bool:
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        try:
            if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
                return True
        except psutil.NoSuchProcess:
            return True
        time.sleep(0.01)
    return False


def test_the_repositorys_pre_push_hook_runs(repo: Path, workspace: GitWorkspace, tmp_path: Path, git: GitRunner) -> None:
    """It is how git-lfs sends what it keeps beside the commits; one that refuses is a push that failed."""
    git(tmp_path, "init", "--quiet", "--bare", "remote.git")
    hook = repo / ".git" / "hooks" / "pre-push"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\necho not on Sundays >&2\nexit 1\n")
    hook.chmod(0o755)

    assert "not on Sundays" in workspace.push(str(tmp_path / "remote.git")).error
