"""Runs git through GitPython: one place for its environment, its patience and its errors."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast

from kilroy_engine.errors import WorkspaceError

if TYPE_CHECKING:
    import git

NO_GIT = "git is not installed or not on PATH; install it, or run without a repository (--no-git)"
_LIMIT_S = 600.0  # a hook of the repository may take long, but not for ever
_PAUSES_S = (0.02, 0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2)
_BUSY = re.compile(
    r"\.lock': File exists|[Uu]nable to lock|cannot lock ref|could not lock|failed to read .*commondir", re.IGNORECASE
)
_CREDENTIALS = re.compile(r"://[^/@\s]+@")
# Set while a git hook runs the engine. They outrank the folder that a command is run in, index and all.
_INHERITED = (
    "GIT_DIR",
    "GIT_WORK_TREE",
    "GIT_INDEX_FILE",
    "GIT_COMMON_DIR",
    "GIT_OBJECT_DIRECTORY",
    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
    "GIT_PREFIX",
    "GIT_NAMESPACE",
)


def load_git() -> type[git.Git]:
    """GitPython's command class. Imported late: it costs 150 ms that plain runs and other commands need not pay.

    Raises:
        WorkspaceError: There is no git to run.
    """
    try:
        import git
    except ImportError as error:
        # GitPython refuses to be imported where git cannot be run.
        raise WorkspaceError(NO_GIT) from error
    return git.Git


def run_git(folder: Path, *arguments: str, timeout_s: float = _LIMIT_S, upwards: bool = False) -> str:
    """Output of ``git <arguments>`` in ``folder``, without its last newline.

    git takes ``folder`` itself for the top of the work tree; with ``upwards`` it may be any folder below. So a worktree that
    lost its ``.git`` is an error, and never turns a command loose on a repository around it.

    Raises:
        WorkspaceError: git is missing, refused, or did not end in time.
    """
    git_class = load_git()
    environment = {"GIT_TERMINAL_PROMPT": "0", "GCM_INTERACTIVE": "never"}
    if not upwards:
        environment["GIT_CEILING_DIRECTORIES"] = str(folder.parent)
    command = ["git", "-C", str(folder), "-c", "maintenance.auto=0", "-c", "gc.auto=0", *arguments]
    try:
        handle = git_class(folder).execute(
            [*_without_inherited(), *command], as_process=True, env=environment, start_new_session=True
        )
    except OSError as error:
        raise WorkspaceError(f"cannot run git: {error}", command=_shown(command)) from error
    except ValueError as error:
        raise WorkspaceError(f"cannot run git: {error}", command=_shown(command)) from error
    return _finish(cast("subprocess.Popen[bytes]", handle.proc), command, timeout_s)


def run_git_patiently(folder: Path, *arguments: str) -> str:
    """As :func:`run_git`, but waits up to 6 s for a lock that another git holds: a stage's own, or another run's."""
    for pause_s in _PAUSES_S:
        try:
            return run_git(folder, *arguments)
        except WorkspaceError as error:
            if not _BUSY.search(error.stderr):
                raise
        time.sleep(pause_s)
    return run_git(folder, *arguments)


def _finish(process: subprocess.Popen[bytes], command: Sequence[str], timeout_s: float) -> str:
    try:
        stdout, stderr = process.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired as error:
        _kill(process)
        raise WorkspaceError(f"{_shown(command)} did not end within {timeout_s:g} s", command=_shown(command)) from error
    except BaseException:
        _kill(process)
        raise
    if process.returncode != 0:
        said = _CREDENTIALS.sub("://***@", stderr.decode(errors="replace").strip())
        message = f"git {_verb(command)} failed: {said or f'exit status {process.returncode}'}"
        raise WorkspaceError(message, command=_shown(command), stderr=said)
    return stdout.decode(errors="surrogateescape").removesuffix("\n")


def _kill(process: subprocess.Popen[bytes]) -> None:
    """Ends git and what it started: its ssh or hook would otherwise hold the pipes."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass  # it ended by itself in the meantime
    process.communicate()


def _without_inherited() -> list[str]:
    """GitPython passes the whole environment on; ``env -u`` in front is the way to take variables out of it."""
    found = [name for name in _INHERITED if name in os.environ]
    return ["env", *(part for name in found for part in ("-u", name))] if found else []


def _verb(command: Sequence[str]) -> str:
    """The git subcommand: the first word after git's own options."""
    words = iter(command[1:])
    for word in words:
        if word in ("-C", "-c"):
            next(words)
        elif not word.startswith("-"):
            return word
    return ""


def _shown(command: Sequence[str]) -> str:
    return _CREDENTIALS.sub("://***@", " ".join(command))
