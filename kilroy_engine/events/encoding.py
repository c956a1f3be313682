"""Values to JSON bytes, UTF-8, no HTML escapes, no NaN; and JSON bytes of others to values, of bounded depth.

A lone surrogate (half of a character, from an escape in some tool's JSON) becomes U+FFFD, as Go does: every line and every
file is valid for every reader.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import cast

import orjson

from kilroy_engine.limits import JSON_DEPTH


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


def from_json(content: bytes, *, constant: Callable[[str], object] | None = None) -> object:
    """The value of JSON that somebody else may have written. ``constant`` takes ``NaN`` and the like, as in :mod:`json`.

    Raises:
        ValueError: It is no JSON, or lists and objects lie deeper in one another than :data:`JSON_DEPTH`.
    """
    try:
        value: object = json.loads(content, parse_constant=constant)
    except RecursionError:
        raise ValueError(_TOO_DEEP) from None
    if content.count(b"[") + content.count(b"{") > JSON_DEPTH and _is_deep(value):
        raise ValueError(_TOO_DEEP)
    return value


def require_shallow(content: bytes) -> None:
    """For readers that have a parser of their own. Raises as :func:`from_json` does, where it is JSON that is too deep."""
    if content.count(b"[") + content.count(b"{") > JSON_DEPTH:
        from_json(content)


_TOO_DEEP = f"lists and objects lie more than {JSON_DEPTH} deep in one another"


def _is_deep(value: object) -> bool:
    level = [value]
    for _ in range(JSON_DEPTH):
        level = [inner for outer in level for inner in _inner(outer) if isinstance(inner, dict | list)]
        if not level:
            return False
    return True


def _inner(value: object) -> list[object]:
    if isinstance(value, dict):
        return list(cast("dict[str, object]", value).values())
    return cast("list[object]", value) if isinstance(value, list) else []
