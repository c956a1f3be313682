"""Runs without a repository."""

from __future__ import annotations

from pathlib import Path

import pytest

from kilroy_engine.errors import WorkspaceError
from kilroy_engine.traversal.outcome import FinalStatus
from kilroy_engine.workspace import KeepWorktree, WorkspaceFacts, open_in_place, open_scratch, reopen_workspace


def test_a_scratch_folder_is_made_and_never_removed(tmp_path: Path) -> None:
    """Nothing else holds what a plain run made, whatever ``keep_worktree`` says."""
    workspace = open_scratch(tmp_path / "run" / "worktree")
    (workspace.path / "made.txt").write_text("made")

    assert not workspace.tidy(FinalStatus.SUCCESS, KeepWorktree.NEVER)
    assert (workspace.path / "made.txt").exists()


def test_a_plain_folder_has_no_commits(tmp_path: Path) -> None:
    """Empty ids are what Kilroy writes for runs without git."""
    workspace = open_scratch(tmp_path / "worktree")

    assert (workspace.commit_stage("build", "success").sha, workspace.head(), workspace.base_sha, workspace.branch) == ("",) * 4
    assert not workspace.push("origin").ok


def test_a_folder_of_the_users_is_worked_in_as_it_is(tmp_path: Path) -> None:
    """``--workdir`` works in place and needs a folder that is there."""
    (tmp_path / "mine.txt").write_text("mine")

    assert open_in_place(tmp_path).path == tmp_path.resolve()
    with pytest.raises(WorkspaceError, match="nowhere is not a folder"):
        open_in_place(tmp_path / "nowhere")


def test_a_scratch_folder_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    """Here a file is in the way."""
    (tmp_path / "file").write_text("x")

    with pytest.raises(WorkspaceError, match="cannot make the work folder"):
        open_scratch(tmp_path / "file" / "worktree")


def test_a_fresh_process_opens_a_plain_run_again(tmp_path: Path) -> None:
    """Facts without a base commit are a plain folder's; restoring has nothing to do."""
    workspace = reopen_workspace(WorkspaceFacts("R1", tmp_path))

    workspace.restore("")
    assert workspace.path == tmp_path
    assert workspace.base_sha == ""
