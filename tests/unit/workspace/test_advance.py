"""Work on record at a commit that lies after the restored one: the place of work moves on to it, or says that it cannot."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from kilroy_engine.workspace import GitWorkspace, PlainWorkspace, plan_git

GitRunner = Callable[..., str]


@pytest.fixture
def workspace(repo: Path, tmp_path: Path) -> GitWorkspace:
    return plan_git(repo, run_id="R1").open(tmp_path / "run" / "worktree")


def commit(workspace: GitWorkspace, name: str) -> str:
    (workspace.path / name).write_text(name)
    return workspace.commit_stage(name, "success").sha


def test_branch_and_folder_move_on_to_a_commit_that_follows(workspace: GitWorkspace, git: GitRunner) -> None:
    """The dropped commits are on the run's branch again and their files in the folder."""
    saved, recorded = commit(workspace, "saved"), commit(workspace, "recorded")
    workspace.restore(saved)
    assert not (workspace.path / "recorded").exists()

    assert workspace.advance(recorded)

    assert (workspace.path / "recorded").read_text() == "recorded"
    assert git(workspace.path, "rev-parse", "attractor/run/R1", "HEAD").split() == [recorded, recorded]
    assert git(workspace.path, "symbolic-ref", "HEAD") == "refs/heads/attractor/run/R1"
    assert git(workspace.path, "status", "--porcelain") == ""


def test_files_changed_since_the_restore_do_not_keep_recorded_work_away(workspace: GitWorkspace) -> None:
    """A set-up command runs between the restore and the first stage, and may leave files that the commit has too."""
    saved, recorded = commit(workspace, "saved"), commit(workspace, "recorded")
    workspace.restore(saved)
    (workspace.path / "saved").write_text("by a set-up command")
    (workspace.path / "recorded").write_text("by a set-up command")

    assert workspace.advance(recorded)

    assert [(workspace.path / name).read_text() for name in ("saved", "recorded")] == ["saved", "recorded"]


def test_work_that_is_there_already_changes_nothing(workspace: GitWorkspace) -> None:
    """Neither the branch goes back nor are files touched that no commit has."""
    recorded, later = commit(workspace, "recorded"), commit(workspace, "later")
    (workspace.path / "later").write_text("uncommitted")

    assert workspace.advance(recorded)
    assert workspace.advance(later)

    assert workspace.head() == later
    assert (workspace.path / "later").read_text() == "uncommitted"


def test_a_commit_that_went_another_way_is_refused(workspace: GitWorkspace) -> None:
    """Moving to it would drop the commits that the branch has."""
    saved, recorded = commit(workspace, "saved"), commit(workspace, "recorded")
    workspace.restore(saved)
    head = commit(workspace, "other")

    assert not workspace.advance(recorded)

    assert workspace.head() == head
    assert (workspace.path / "other").exists()


@pytest.mark.parametrize("sha", ["", "0" * 40, "--all"])
def test_a_commit_that_is_gone_is_refused(workspace: GitWorkspace, sha: str) -> None:
    head = commit(workspace, "saved")

    assert not workspace.advance(sha)

    assert workspace.head() == head


def test_a_plain_folder_holds_all_work_on_record(tmp_path: Path) -> None:
    """It is never put back, so nothing can lie after it."""
    assert PlainWorkspace(tmp_path).advance("")
