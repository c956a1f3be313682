"""Runs git: one place for its environment, its patience and its errors."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from kilroy_engine.errors import WorkspaceError

NO_GIT = "git is not installed or not on PATH; install it, or run without a repository (--no-git)"
LOCK_PATIENCE_S = 6.0
"""How long a lock that another git holds is waited for: a stage's own, or another run's."""

_LIMIT_S = 600.0  # a filter of the repository may take long, but not for ever
_PAUSE_S = 0.02
_LONGEST_PAUSE_S = 0.5
_BUSY = re.compile(
    r"\.lock': File exists|[Uu]nable to lock|cannot lock ref|could not lock|failed to read .*commondir", re.IGNORECASE
)
_CREDENTIALS = re.compile(r"://[^/@\s]+@")
# Set while a git hook runs the engine. They outrank the folder that a command is run in, index and all.
GIT_FROM_AROUND = (
    "GIT_DIR",
    "GIT_WORK_TREE",
    "GIT_INDEX_FILE",
    "GIT_COMMON_DIR",
    "GIT_OBJECT_DIRECTORY",
    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
    "GIT_PREFIX",
    "GIT_NAMESPACE",
)
_ENGINE_SETTINGS = ("maintenance.auto=0", "gc.auto=0", "core.fsmonitor=false")
_NO_HOOKS = "core.hooksPath=/dev/null"
_UNSIGNED = ("commit.gpgSign=false", "tag.gpgSign=false")


@dataclass(frozen=True, slots=True)
class GitCall:
    """How git is called: ``stdin`` is what it reads, ``hooks`` lets the repository's hooks run.

    git takes the folder that it is run in for the top of the work tree; with ``upwards`` it may be any folder below. So a
    worktree that lost its ``.git`` is an error, and never turns a command loose on a repository around it.
    """

    stdin: bytes = b""
    timeout_s: float = _LIMIT_S
    upwards: bool = False
    hooks: bool = False


@dataclass(frozen=True, slots=True)
class GitAnswer:
    """What git said. ``stdout`` is without its last newline; file names that are no UTF-8 come through unharmed."""

    stdout: str
    stderr: str


_PLAIN = GitCall()


def run_git(folder: Path, *arguments: str, call: GitCall = _PLAIN) -> str:
    """Output of ``git <arguments>`` in ``folder``, without its last newline.

    Raises:
        WorkspaceError: git is missing, refused, or did not end in time.
    """
    return call_git(folder, *arguments, call=call).stdout


def call_git(folder: Path, *arguments: str, call: GitCall = _PLAIN) -> GitAnswer:
    """As :func:`run_git`, with what git said beside its output."""
    command = git_command(folder, *arguments, hooks=call.hooks)
    process = start_git(command, environment=git_environment(folder, upwards=call.upwards))
    return _finish(process, command, call)


def run_git_patiently(folder: Path, *arguments: str, call: GitCall = _PLAIN) -> str:
    """As :func:`run_git`, but waits for a lock that another git holds."""
    return call_git_patiently(folder, *arguments, call=call).stdout


def call_git_patiently(folder: Path, *arguments: str, call: GitCall = _PLAIN) -> GitAnswer:
    """As :func:`call_git`, but waits for a lock that another git holds."""
    give_up, pause_s = time.monotonic() + LOCK_PATIENCE_S, _PAUSE_S
    while True:
        try:
            return call_git(folder, *arguments, call=call)
        except WorkspaceError as error:
            if not _BUSY.search(error.stderr) or time.monotonic() >= give_up:
                raise
        time.sleep(pause_s)
        pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)


def git_command(folder: Path, *arguments: str, hooks: bool = False) -> list[str]:
    """The command line: the engine's commands run no hook, no file system monitor, no housekeeping, and sign nothing."""
    settings = (*_ENGINE_SETTINGS, *_UNSIGNED, *(() if hooks else (_NO_HOOKS,)))
    return ["git", "-C", str(folder), *(part for setting in settings for part in ("-c", setting)), *arguments]


def git_environment(folder: Path, *, upwards: bool = False) -> dict[str, str]:
    """The environment of a git process in ``folder``: English messages, no questions, nothing of a git around the engine."""
    environment = {name: value for name, value in os.environ.items() if name not in GIT_FROM_AROUND}
    environment.update({"LANGUAGE": "C", "GIT_TERMINAL_PROMPT": "0", "GCM_INTERACTIVE": "never"})
    if not upwards:
        environment["GIT_CEILING_DIRECTORIES"] = str(folder.parent)
    return environment


def start_git(command: Sequence[str], *, environment: dict[str, str]) -> subprocess.Popen[bytes]:
    """Starts git in a session of its own: a signal to the engine's process group does not end it half-way.

    Raises:
        WorkspaceError: There is no git, or it cannot be started.
    """
    pipe = subprocess.PIPE
    try:
        return subprocess.Popen(command, env=environment, stdin=pipe, stdout=pipe, stderr=pipe, start_new_session=True)
    except FileNotFoundError as error:
        raise WorkspaceError(NO_GIT, command=shown(command)) from error
    except (OSError, ValueError) as error:
        raise WorkspaceError(f"cannot run git: {error}", command=shown(command)) from error


def refusal(command: Sequence[str], said: bytes, status: int) -> WorkspaceError:
    """The error for a git that refused ``command`` with what it said; credentials in addresses are blotted out."""
    text = _CREDENTIALS.sub("://***@", said.decode(errors="replace").strip())
    message = f"git {_verb(command)} failed: {text or f'exit status {status}'}"
    return WorkspaceError(message, command=shown(command), stderr=text)


def kill_git(process: subprocess.Popen[bytes]) -> None:
    """Ends git and what it started: its ssh or filter would otherwise hold the pipes."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass  # it ended by itself in the meantime
    process.communicate()


def readable(name: str) -> str:
    """A file name as git told it, for people: bytes that are no UTF-8 are replaced."""
    return name.encode(errors="surrogateescape").decode(errors="replace")


def shown(command: Sequence[str]) -> str:
    """A command line for people, without credentials."""
    return _CREDENTIALS.sub("://***@", " ".join(command))


def _finish(process: subprocess.Popen[bytes], command: Sequence[str], call: GitCall) -> GitAnswer:
    try:
        stdout, stderr = process.communicate(call.stdin, timeout=call.timeout_s)
    except subprocess.TimeoutExpired as error:
        kill_git(process)
        raise WorkspaceError(f"{shown(command)} did not end within {call.timeout_s:g} s", command=shown(command)) from error
    except BaseException:
        kill_git(process)
        raise
    if process.returncode != 0:
        raise refusal(command, stderr, process.returncode)
    return GitAnswer(stdout.decode(errors="surrogateescape").removesuffix("\n"), stderr.decode(errors="surrogateescape"))


def _verb(command: Sequence[str]) -> str:
    """The git subcommand: the first word after git's own options."""
    words = iter(command[1:])
    for word in words:
        if word in ("-C", "-c"):
            next(words)
        elif not word.startswith("-"):
            return word
    return ""
