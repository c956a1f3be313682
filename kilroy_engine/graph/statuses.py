"""Status words and JSON values: what edge conditions compare, shared with everything that runs stages."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import TypeAlias

Json: TypeAlias = "str | int | float | bool | list[Json] | dict[str, Json] | None"
"""A JSON value: what context values and details are."""


class Status(StrEnum):
    """The statuses of a stage (Spec 5.2). Any other word is a custom status: it routes, but satisfies no gate."""

    SUCCESS = "success"
    PARTIAL_SUCCESS = "partial_success"
    RETRY = "retry"
    FAIL = "fail"
    SKIPPED = "skipped"


STATUS_ALIASES: Mapping[str, Status] = {
    "ok": Status.SUCCESS,
    "succeeded": Status.SUCCESS,
    "partialsuccess": Status.PARTIAL_SUCCESS,
    "partial-success": Status.PARTIAL_SUCCESS,
    "partially_succeeded": Status.PARTIAL_SUCCESS,
    "degraded_success": Status.PARTIAL_SUCCESS,
    "degradedsuccess": Status.PARTIAL_SUCCESS,
    "degraded-success": Status.PARTIAL_SUCCESS,
    "failure": Status.FAIL,
    "failed": Status.FAIL,
    "error": Status.FAIL,
    "skip": Status.SKIPPED,
}
"""Other spellings that are read (Kilroy's status parser, fabro's words)."""


def read_status(text: str) -> str:
    """Status word of ``text``: trimmed, lower case, aliases resolved; a custom word is kept. Empty text stays empty."""
    word = text.strip().lower()
    return str(STATUS_ALIASES.get(word, word))
