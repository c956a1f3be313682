"""Real repositories for the tests of the workspace, independent of the machine's git settings."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

GitRunner = Callable[..., str]


@pytest.fixture(autouse=True)
def known_git_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Git settings that every command of a test reads, and nothing else of the machine's."""
    settings = tmp_path / "gitconfig"
    settings.write_text("[user]\n\tname = Ada\n\temail = ada@example.org\n[init]\n\tdefaultBranch = main\n")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(settings))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    return settings


@pytest.fixture
def git() -> GitRunner:
    """Runs git as a person would: ``git(folder, *arguments)`` gives its output."""

    def run(folder: Path, *arguments: str) -> str:
        done = subprocess.run(["git", *arguments], cwd=folder, check=True, capture_output=True, text=True)
        return done.stdout.rstrip("\n")

    return run


@pytest.fixture
def repo(tmp_path: Path, git: GitRunner) -> Path:
    """A repository with one commit: ``README.md`` and ``src/app.py``."""
    folder = tmp_path / "project"
    (folder / "src").mkdir(parents=True)
    (folder / "README.md").write_text("# Project\n")
    (folder / "src" / "app.py").write_text("print('hello')\n")
    git(folder, "init", "--quiet")
    git(folder, "add", "-A")
    git(folder, "commit", "--quiet", "-m", "first")
    return folder
