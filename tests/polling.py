"""Waiting for a condition, never for a while."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def eventually(condition: Callable[[], T | None], *, within_s: float = 120.0, what: str = "the condition") -> T:
    """Polls until ``condition`` answers with something, and returns that. Asks more rarely the longer it lasts: a server with
    one core for eight runs has other things to do."""
    deadline = time.monotonic() + within_s
    pause_s = 0.05
    while time.monotonic() < deadline:
        found = condition()
        if found:
            return found
        time.sleep(pause_s)
        pause_s = min(0.5, pause_s * 1.2)
    raise AssertionError(f"{what} did not come true within {within_s:g} s")
