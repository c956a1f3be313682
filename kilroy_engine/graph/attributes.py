"""Reads attribute values: numbers, booleans, durations. Text that does not fit gives the caller's default."""

from __future__ import annotations

import re
from typing import overload

_INTEGER = re.compile(r"[+-]?\d+\Z")
_NUMBER = re.compile(r"[+-]?(?:\d+(?:\.\d+)?|\.\d+)\Z")
_DURATION = re.compile(r"(?P<number>\d+(?:\.\d+)?|\.\d+)\s*(?P<unit>ms|s|m|h|d)?\Z")
_UNIT_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, None: 1.0}
TRUE_WORDS = frozenset({"true", "1", "yes", "y", "on"})
FALSE_WORDS = frozenset({"false", "0", "no", "n", "off"})


@overload
def read_int(text: str, *, default: int) -> int: ...
@overload
def read_int(text: str, *, default: None) -> int | None: ...
def read_int(text: str, *, default: int | None) -> int | None:
    """The whole number that ``text`` writes, such as ``3`` or ``-1``; ``default`` for any other text."""
    text = text.strip()
    return int(text) if _INTEGER.match(text) else default


@overload
def read_number(text: str, *, default: float) -> float: ...
@overload
def read_number(text: str, *, default: None) -> float | None: ...
def read_number(text: str, *, default: float | None) -> float | None:
    """The number that ``text`` writes, such as ``0.5`` or ``2``; ``default`` for any other text."""
    text = text.strip()
    return float(text) if _NUMBER.match(text) else default


def read_bool(text: str, *, default: bool) -> bool:
    """Whether ``text`` is one of ``TRUE_WORDS`` or of ``FALSE_WORDS``, in any case; ``default`` for any other text."""
    word = text.strip().lower()
    if word in TRUE_WORDS:
        return True
    return False if word in FALSE_WORDS else default


@overload
def read_duration_s(text: str, *, default: float) -> float: ...
@overload
def read_duration_s(text: str, *, default: None) -> float | None: ...
def read_duration_s(text: str, *, default: float | None) -> float | None:
    """The seconds of a duration such as ``250ms``, ``15m`` or ``900`` (seconds); ``default`` for any other text."""
    match = _DURATION.match(text.strip())
    if match is None:
        return default
    return float(match["number"]) * _UNIT_S[match["unit"]]
