"""Whether an agent program has what its provider asks for: a key, or a login of its own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path


class Found(StrEnum):
    """``UNKNOWN`` where nobody but the program can know, for example because a key chain holds the login. ``NOT_LOOKED_FOR``
    for a program of whose provider nothing is known."""

    YES = "yes"
    NO = "no"
    UNKNOWN = "unknown"
    NOT_LOOKED_FOR = "not looked for"


@dataclass(frozen=True, slots=True)
class SignIn:
    """What is known of a program's access to its provider, and never a value of a key.

    ``by`` names the variable or the file that gives access; without access, what is missing. ``ask`` are the arguments with
    which the program itself says whether it is logged in; empty where its answer would decide nothing.
    """

    found: Found
    by: str
    ask: tuple[str, ...] = ()


def first_set(names: Iterable[str], environment: Mapping[str, str]) -> str:
    """The first of ``names`` that has a value in ``environment``; empty for none."""
    return next((name for name in names if environment.get(name, "").strip()), "")


def home_of(environment: Mapping[str, str], variable: str, folder: str) -> Path:
    """A program's folder: what ``variable`` names, else ``folder`` in the home folder."""
    named = environment.get(variable, "").strip()
    return Path(named) if named else Path(environment.get("HOME") or Path.home()) / folder


def mentions(file: Path, *words: str) -> bool:
    """Whether the settings file ``file`` holds one of ``words``. A file that cannot be read holds none."""
    try:
        text = file.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    return any(word in text for word in words)
