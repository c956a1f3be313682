"""Values to JSON bytes: UTF-8, no HTML escapes, no NaN.

A lone surrogate (half of a character, from an escape in some tool's JSON) becomes U+FFFD, as Go does: every line and every
file is valid for every reader.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import orjson


def _plain(value: object) -> object:
    match value:
        case Mapping():
            return dict(value)
        case set() | frozenset():
            return sorted(value)
        case Path():
            return str(value)
        case _:
            raise TypeError(f"{type(value).__name__} has no JSON form")


_COMPACT = json.JSONEncoder(
    ensure_ascii=False, separators=(",", ":"), sort_keys=True, allow_nan=False, check_circular=False, default=_plain
)
_INDENTED = json.JSONEncoder(ensure_ascii=False, indent=2, allow_nan=False, default=_plain)


def compact(value: object) -> bytes:
    """One line without a newline; keys sorted, as Kilroy's event lines are.

    Raises:
        ValueError, TypeError: the value has no JSON form.
    """
    return utf8(_COMPACT.encode(value))


def indented(value: object) -> bytes:
    """Two-space indent, keys in their own order, no newline at the end (Kilroy's record files).

    Raises:
        ValueError, TypeError: the value has no JSON form.
    """
    try:
        # A tenth of the time of the standard library, whose indented form is written by Python code: a checkpoint of a long
        # run has a hundred kilobytes. NaN becomes null.
        return orjson.dumps(value, default=_plain, option=orjson.OPT_INDENT_2)
    except TypeError:
        # Lone surrogates, integers beyond 64 bits, keys that are no text: rare enough for the slow way.
        return utf8(_INDENTED.encode(value))


def utf8(text: str) -> bytes:
    """The text as UTF-8, with U+FFFD for lone surrogates."""
    try:
        return text.encode()
    except UnicodeEncodeError:
        return "".join("\ufffd" if "\ud800" <= c <= "\udfff" else c for c in text).encode()
