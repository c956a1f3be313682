"""The end of a run: what its records alone say about pushing and removing."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from kilroy_engine.events import GitPushFailed, GitPushOk, GitPushStart, WarningGiven
from kilroy_engine.rundir.files.layout import RunDirectory
from kilroy_engine.rundir.files.records import FinalOutcome, Manifest
from kilroy_engine.traversal.outcome import FinalStatus
from kilroy_engine.workspace import GitWorkspace, plan_git
from kilroy_engine.workspace.closing import closing_of
from kilroy_engine.workspace.reopen import workspace_of

GitRunner = Callable[..., str]
NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    """An empty run directory."""
    directory = RunDirectory(tmp_path / "runs" / "R1")
    directory.path.mkdir(parents=True)
    return directory


@pytest.fixture
def workspace(run: RunDirectory, repo: Path) -> GitWorkspace:
    """The run's worktree with one commit, and the manifest that tells of it."""
    opened = plan_git(repo, run_id="R1").open(run.worktree)
    opened.commit_stage("exit", "success")
    Manifest(
        run_id="R1",
        started_at=NOW,
        worktree=str(opened.path),
        repo_path=str(repo),
        run_branch=opened.branch,
        base_sha=opened.base_sha,
    ).write(run)
    return opened


def configure(run: RunDirectory, **git: str) -> None:
    """A ``run_config.json`` with these settings of git."""
    run.run_config.write_text(json.dumps({"version": 1, "git": git}))


def ended(status: FinalStatus) -> FinalOutcome:
    """A run's end."""
    return FinalOutcome(timestamp=NOW, status=status, run_id="R1")


def test_the_run_branch_is_pushed_to_the_configured_remote(
    run: RunDirectory, workspace: GitWorkspace, tmp_path: Path, git: GitRunner
) -> None:
    """Kilroy's events, in its order, failed runs included."""
    remote = tmp_path / "remote.git"
    git(tmp_path, "init", "--quiet", "--bare", "remote.git")
    configure(run, push_remote=str(remote))
    events = list(closing_of(run).push(ended(FinalStatus.FAIL), limit_s=30.0))

    assert events == [
        GitPushStart(remote=str(remote), branch="attractor/run/R1"),
        GitPushOk(remote=str(remote), branch="attractor/run/R1"),
    ]
    assert git(remote, "rev-parse", "attractor/run/R1") == workspace.head()


def test_a_failed_push_is_a_warning_and_an_event(run: RunDirectory, workspace: GitWorkspace) -> None:
    """The warning comes before ``git_push_failed`` (Kilroy)."""
    configure(run, push_remote="nowhere")
    events = list(closing_of(run).push(ended(FinalStatus.SUCCESS), limit_s=30.0))

    assert [type(event) for event in events] == [GitPushStart, WarningGiven, GitPushFailed]
    assert isinstance(events[2], GitPushFailed)
    assert "'nowhere' does not appear to be a git repository" in events[2].error


def test_nothing_is_pushed_without_a_remote(run: RunDirectory, workspace: GitWorkspace) -> None:
    """No setting, no event."""
    configure(run)

    assert list(closing_of(run).push(ended(FinalStatus.SUCCESS), limit_s=30.0)) == []


@pytest.mark.parametrize(("keep", "gone"), [("on_failure", True), ("always", False)])
def test_the_worktree_is_removed_as_configured(run: RunDirectory, workspace: GitWorkspace, keep: str, gone: bool) -> None:
    """From the records alone, as a hook in a fresh process has them."""
    configure(run, keep_worktree=keep)
    assert list(closing_of(run).tidy(ended(FinalStatus.SUCCESS))) == []

    assert run.worktree.exists() is not gone


def test_the_excluded_globs_of_the_run_hold_for_a_reopened_workspace(
    run: RunDirectory, workspace: GitWorkspace, git: GitRunner
) -> None:
    """A resumed run commits what the first start would have committed."""
    run.run_config.write_text(json.dumps({"artifact_policy": {"checkpoint": {"exclude_globs": ["*.log"]}}}))
    (workspace.path / "a.log").write_text("x")
    (workspace.path / "a.txt").write_text("x")
    workspace_of(run).commit_stage("again", "success")

    assert git(workspace.path, "show", "--name-only", "--format=").splitlines() == ["a.txt"]


def test_records_that_cannot_be_read_push_and_remove_nothing(run: RunDirectory, workspace: GitWorkspace) -> None:
    """The end must be written in any case."""
    run.run_config.write_text("{")
    closing = closing_of(run)

    assert list(closing.push(ended(FinalStatus.SUCCESS), limit_s=1.0)) == []
    assert list(closing.tidy(ended(FinalStatus.SUCCESS))) == []
    assert run.worktree.exists()
