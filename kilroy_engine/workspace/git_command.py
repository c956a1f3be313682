"""Runs git commands: their environment, their time limits, their waiting for locks, their errors."""

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
"""How long a git command waits for a lock of another git process, such as one of a stage or of another run."""

_LIMIT_S = 600.0  # a filter of the repository may take long, but must end
_PAUSE_S = 0.02
_LONGEST_PAUSE_S = 0.5
_BUSY = re.compile(
    r"\.lock': File exists|[Uu]nable to lock|cannot lock ref|could not lock|failed to read .*commondir", re.IGNORECASE
)
_CREDENTIALS = re.compile(r"://[^/@\s]+@")
# Set while a git hook runs the engine. git obeys these variables rather than the folder that a command is run in.
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
    """How git is called. ``stdin`` is git's input. ``hooks`` lets the repository's hooks run.

    git runs at the top of the work tree. With ``upwards`` the folder may be any folder below the top. Without ``upwards`` git
    does not search the folders above, so that a command in a worktree without ``.git`` fails and never changes a repository
    around it.
    """

    stdin: bytes = b""
    timeout_s: float = _LIMIT_S
    upwards: bool = False
    hooks: bool = False


@dataclass(frozen=True, slots=True)
class GitAnswer:
    """git's output. ``stdout`` is without the last newline. Bytes of file names that are no UTF-8 become surrogates."""

    stdout: str
    stderr: str


_PLAIN = GitCall()


def run_git(folder: Path, *arguments: str, call: GitCall = _PLAIN) -> str:
    """Output of ``git <arguments>`` in ``folder``, without the last newline.

    Raises:
        WorkspaceError: git is missing, refused, or did not end in time.
    """
    return call_git(folder, *arguments, call=call).stdout


def call_git(folder: Path, *arguments: str, call: GitCall = _PLAIN) -> GitAnswer:
    """The same as :func:`run_git`, but also returns standard error."""
    command = git_command(folder, *arguments, hooks=call.hooks)
    process = start_git(command, environment=git_environment(folder, upwards=call.upwards))
    return _finish(process, command, call)


def run_git_patiently(folder: Path, *arguments: str, call: GitCall = _PLAIN) -> str:
    """The same as :func:`run_git`, but waits for a lock that another git process holds."""
    return call_git_patiently(folder, *arguments, call=call).stdout


def call_git_patiently(folder: Path, *arguments: str, call: GitCall = _PLAIN) -> GitAnswer:
    """The same as :func:`call_git`, but waits for a lock that another git process holds."""
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
    """The command line. git runs no hook, no file system monitor and no housekeeping in the engine's commands, and signs
    nothing."""
    settings = (*_ENGINE_SETTINGS, *_UNSIGNED, *(() if hooks else (_NO_HOOKS,)))
    return ["git", "-C", str(folder), *(part for setting in settings for part in ("-c", setting)), *arguments]


def git_environment(folder: Path, *, upwards: bool = False) -> dict[str, str]:
    """The environment of a git process in ``folder``: English messages, no questions, no variables of an outer git."""
    environment = {name: value for name, value in os.environ.items() if name not in GIT_FROM_AROUND}
    environment.update({"LANGUAGE": "C", "GIT_TERMINAL_PROMPT": "0", "GCM_INTERACTIVE": "never"})
    if not upwards:
        environment["GIT_CEILING_DIRECTORIES"] = str(folder.parent)
    return environment


def start_git(command: Sequence[str], *, environment: dict[str, str]) -> subprocess.Popen[bytes]:
    """Starts git in its own session, so that a signal to the engine's process group does not end git half-way.

    Raises:
        WorkspaceError: git is not installed or cannot be started.
    """
    pipe = subprocess.PIPE
    try:
        return subprocess.Popen(command, env=environment, stdin=pipe, stdout=pipe, stderr=pipe, start_new_session=True)
    except FileNotFoundError as error:
        raise WorkspaceError(NO_GIT, command=shown(command)) from error
    except (OSError, ValueError) as error:
        raise WorkspaceError(f"cannot run git: {error}", command=shown(command)) from error


def refusal(command: Sequence[str], said: bytes, status: int) -> WorkspaceError:
    """The error for a failed ``command``. ``said`` is git's standard error; credentials in addresses are masked."""
    text = _CREDENTIALS.sub("://***@", said.decode(errors="replace").strip())
    message = f"git {_verb(command)} failed: {text or f'exit status {status}'}"
    return WorkspaceError(message, command=shown(command), stderr=text)


def kill_git(process: subprocess.Popen[bytes]) -> None:
    """Kills git and the processes that git started. A remaining ssh or filter process would keep the pipes open."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass  # git ended by itself in the meantime
    process.communicate()


def readable(name: str) -> str:
    """A file name from git's output as text for people: bytes that are no UTF-8 are replaced."""
    return name.encode(errors="surrogateescape").decode(errors="replace")


def shown(command: Sequence[str]) -> str:
    """A command line as text for people, with credentials masked."""
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
    """The git subcommand: the first word after git's global options."""
    words = iter(command[1:])
    for word in words:
        if word in ("-C", "-c"):
            next(words)
        elif not word.startswith("-"):
            return word
    return ""
