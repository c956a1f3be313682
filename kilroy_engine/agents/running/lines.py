"""Lines of JSON that agent programs print: read with care, because a line may be anything."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import cast

ABOUT_LENGTH = 160


def read_record(line: str) -> Mapping[str, object] | None:
    """The JSON object in ``line``; None where it holds something else."""
    if not line.startswith("{"):
        return None
    try:
        value: object = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return cast("Mapping[str, object]", value) if isinstance(value, dict) else None


def child(record: Mapping[str, object], key: str) -> Mapping[str, object]:
    """The object at ``key``, an empty one where there is none."""
    value = record.get(key)
    return cast("Mapping[str, object]", value) if isinstance(value, dict) else {}


def children(record: Mapping[str, object], key: str) -> tuple[Mapping[str, object], ...]:
    """The objects in the list at ``key``."""
    value = record.get(key)
    items = cast("list[object]", value) if isinstance(value, list) else []
    return tuple(cast("Mapping[str, object]", item) for item in items if isinstance(item, dict))


def text(record: Mapping[str, object], key: str) -> str:
    """The text at ``key``, an empty one where there is none."""
    value = record.get(key)
    return value if isinstance(value, str) else ""


def count(record: Mapping[str, object], key: str) -> int:
    """The whole number from 0 up at ``key``, 0 where there is none."""
    value = record.get(key)
    return max(0, value) if isinstance(value, int) and not isinstance(value, bool) else 0


def amount(record: Mapping[str, object], key: str) -> float | None:
    """The number at ``key``, None where there is none."""
    value = record.get(key)
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def first_line(value: str) -> str:
    """The beginning of a text, as one short line."""
    line = next((line.strip() for line in value.splitlines() if line.strip()), "")
    return line if len(line) <= ABOUT_LENGTH else f"{line[:ABOUT_LENGTH]}…"


def about(arguments: Mapping[str, object]) -> str:
    """What a tool is used for, as one short line: the first of its arguments that is a text."""
    return next((first_line(value) for value in arguments.values() if isinstance(value, str) and value.strip()), "")
