"""Looks at an agent program without giving it a task: where it is, which version it is, whether it is logged in."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from kilroy_engine.agents.running.program import Program
from kilroy_engine.agents.running.sign_in import Found, SignIn

ANSWER_S = 30.0
"""How long a program may take to say its version or its login. Gemini CLI takes 7 s on a busy machine."""
_VERSION = re.compile(r"\d+(?:\.\d+)+")


@dataclass(frozen=True, slots=True)
class Answer:
    """What a program printed on both streams, and its exit code; -1 where it did not answer."""

    exit_code: int
    stdout: str
    stderr: str


def path_of(program: Program, environment: Mapping[str, str]) -> str:
    """Where the program is; empty where it is not installed or not on ``PATH``."""
    return shutil.which(program.executable, path=environment.get("PATH", "")) or ""


def version_of(program: Program, environment: Mapping[str, str], folder: Path) -> str:
    """The version that the program says it is; empty where it does not say. Starts the program."""
    answer = _answer(program, ("--version",), environment, folder)
    found = _VERSION.search(answer.stdout)
    return found[0] if found and answer.exit_code == 0 else ""


def is_tested(program: Program, version: str) -> bool:
    """Whether our tests have seen ``version``, or versions on both sides of it."""
    return bool(version and program.tested) and _parts(program.tested[0]) <= _parts(version) <= _parts(program.tested[-1])


def sign_in_of(program: Program, environment: Mapping[str, str], folder: Path) -> SignIn:
    """The program's access to its provider. ``environment`` is the one that the agent gets, ``folder`` where it works.

    Starts the program only where neither a variable nor a file decides and the program can say more.
    """
    known = program.sign_in(environment, folder)
    if known.found is not Found.UNKNOWN or not known.ask:
        return known
    answer = _answer(program, known.ask, environment, folder)
    found = program.reads_sign_in(answer.exit_code, answer.stdout, answer.stderr)
    if found is Found.YES:
        return SignIn(found, f"`{program.executable} {' '.join(known.ask)}`")
    return SignIn(found, known.by)


def _answer(program: Program, arguments: tuple[str, ...], environment: Mapping[str, str], folder: Path) -> Answer:
    path = path_of(program, environment)
    if not path:
        return Answer(-1, "", "")
    try:
        done = subprocess.run(
            [path, *arguments],
            cwd=folder if folder.is_dir() else None,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=ANSWER_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return Answer(-1, "", "")
    return Answer(done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace"))


def _parts(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))
