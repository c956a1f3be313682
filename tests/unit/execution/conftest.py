"""Places for whole runs: a plain folder, and one with a repository."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from whole_runs import Place


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """Runs work in a scratch folder."""
    return Place(tmp_path)


@pytest.fixture
def git_place(tmp_path: Path) -> Place:
    """Runs work on a repository with one commit."""
    repo = tmp_path / "repository"
    repo.mkdir()
    (repo / "README.md").write_text("A project.\n", encoding="utf-8")
    identity = ("-c", "user.name=Test", "-c", "user.email=test@localhost")
    for command in (("init", "--quiet"), ("add", "--all"), (*identity, "commit", "--quiet", "--message=one")):
        subprocess.run(["git", *command], cwd=repo, check=True)
    return Place(tmp_path, repo)
