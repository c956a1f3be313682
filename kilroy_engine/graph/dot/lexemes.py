"""Patterns for the pieces of DOT text: the grammar's terminals, and those that ``attributes.py`` and ``errors.py`` use.

All repetitions are possessive: on text that does not fit, a pattern fails at once and does not try every other split.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

_NAME = r"[A-Za-z_][A-Za-z0-9_]*+"
_SKIPPED = r"(?:\s|//[^\n]*+|/\*.*?\*/)"
_PLAIN_KEY = rf"{_NAME}(?:\.{_NAME})*+"
_KEY = rf'(?:{_PLAIN_KEY}|"{_PLAIN_KEY}")'
_STRING = r'"(?:[^"\\]++|\\.)*+"'
_BARE = r"(?:[A-Za-z0-9_.:+]|-(?!>)|/(?![/*]))++"
_ATTRIBUTE = rf"{_KEY}{_SKIPPED}*+={_SKIPPED}*+(?:{_STRING}|{_BARE})(?:{_SKIPPED}*+[,;])?+"

TERMINALS: Mapping[str, str] = {
    "NAME": _NAME,
    "STRING": _STRING,
    "ATTRIBUTE": _ATTRIBUTE,
    "LIST": rf"\[(?:{_SKIPPED}*+{_ATTRIBUTE})*+{_SKIPPED}*+\]",
    "SKIPPED": rf"{_SKIPPED}++",
}
"""Terminal of ``dot.lark`` -> its pattern. The patterns need the flag DOTALL."""

SKIPPED = re.compile(rf"{_SKIPPED}*+", re.DOTALL)
"""Any number of blanks and comments, also none."""

KEY = re.compile(_PLAIN_KEY)
"""Name of an attribute without quotes, with or without dots."""

ATTRIBUTE = re.compile(
    rf'{_SKIPPED}*+(?:(?P<key>{_PLAIN_KEY})|"(?P<quoted_key>{_PLAIN_KEY})"){_SKIPPED}*+={_SKIPPED}*+'
    rf"(?P<value>{_STRING}|{_BARE})(?:{_SKIPPED}*+(?P<separator>[,;]))?+",
    re.DOTALL,
)
"""One attribute with the blanks before it and the comma or semicolon after it."""

_ATTRIBUTES = re.compile(rf"(?:{_SKIPPED}*+{_ATTRIBUTE})*+{_SKIPPED}*+", re.DOTALL)

LEXEME = re.compile(rf"{_STRING}|//[^\n]*+|/\*.*?\*/|[][{{}}]", re.DOTALL)
"""A quoted text, a comment or a bracket. These pieces suffice to find the brackets that belong together."""


def skip(text: str, offset: int) -> int:
    """Offset of the first character at or after ``offset`` that is neither blank nor in a comment."""
    match = SKIPPED.match(text, offset)
    return match.end() if match else offset


def skip_attributes(text: str, offset: int) -> int:
    """Offset of the first character at or after ``offset`` that belongs to no attribute, blank or comment."""
    match = _ATTRIBUTES.match(text, offset)
    return match.end() if match else offset


def attributes(text: str, offset: int) -> Iterator[re.Match[str]]:
    """Matches of the attributes from ``offset`` on, up to the first character that belongs to no attribute."""
    while (match := ATTRIBUTE.match(text, offset)) is not None:
        yield match
        offset = match.end()
