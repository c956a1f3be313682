"""Status words of stages, and the type of JSON values. Conditions and all code that runs stages use them."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import TypeAlias

Json: TypeAlias = "str | int | float | bool | list[Json] | dict[str, Json] | None"
"""A JSON value, such as a context value or the details of an outcome."""


class Status(StrEnum):
    """The statuses of a stage (Spec 5.2). Any other word is a custom status: conditions may compare it, no gate accepts it."""

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
"""Other spelling -> status (Kilroy's status parser, fabro's words)."""


def read_status(text: str) -> str:
    """The status word that ``text`` means: trimmed, in lower case, aliases resolved. Other words and empty text are kept."""
    word = text.strip().lower()
    return str(STATUS_ALIASES.get(word, word))
