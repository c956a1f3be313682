"""Writes values as JSON bytes (UTF-8, no HTML escapes, no NaN), and reads JSON of limited depth.

A lone surrogate is half of a character, from an escape in some tool's JSON. It becomes U+FFFD, as in Go, so that every line and
every file is valid for every reader.
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
    """``value`` as JSON on one line, without a newline. Keys are sorted, as in Kilroy's event lines.

    Raises:
        ValueError, TypeError: The value has no JSON form, such as NaN.
    """
    return utf8(_COMPACT.encode(value))


def indented(value: object) -> bytes:
    """``value`` as JSON with an indent of two spaces, keys in their own order, no newline at the end (Kilroy's record files).

    Raises:
        ValueError, TypeError: The value has no JSON form. NaN usually becomes null.
    """
    try:
        # orjson takes a tenth of the time of the standard library, which writes indented JSON in Python code. A checkpoint of a
        # long run has a hundred kilobytes. orjson writes NaN as null.
        return orjson.dumps(value, default=_plain, option=orjson.OPT_INDENT_2)
    except TypeError:
        # orjson refuses lone surrogates, integers beyond 64 bits and keys that are no text. The standard library takes them.
        return utf8(_INDENTED.encode(value))


def utf8(text: str) -> bytes:
    """``text`` as UTF-8, with U+FFFD in place of each lone surrogate."""
    try:
        return text.encode()
    except UnicodeEncodeError:
        return "".join("\ufffd" if "\ud800" <= c <= "\udfff" else c for c in text).encode()


def from_json(content: bytes, *, constant: Callable[[str], object] | None = None) -> object:
    """The value of the JSON text ``content``, which another program may have written.

    ``constant`` is called for ``NaN``, ``Infinity`` and ``-Infinity``, as ``parse_constant`` in :func:`json.loads`.

    Raises:
        ValueError: ``content`` is not JSON, or its lists and objects are nested deeper than :data:`JSON_DEPTH`.
    """
    try:
        value: object = json.loads(content, parse_constant=constant)
    except RecursionError:
        raise ValueError(_TOO_DEEP) from None
    if content.count(b"[") + content.count(b"{") > JSON_DEPTH and _is_deep(value):
        raise ValueError(_TOO_DEEP)
    return value


def require_shallow(content: bytes) -> None:
    """Checks the depth of JSON before another parser reads it.

    Raises:
        ValueError: ``content`` is nested deeper than :data:`JSON_DEPTH`, or has many brackets and is not JSON.
    """
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
