"""Where lines of a stage's output go while they come."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

OutputSink: TypeAlias = Callable[[str, str], None]
"""Called with (stream, line): stream is ``stdout`` or ``stderr``, the line has no newline and is not empty."""


def discard_output(stream: str, line: str) -> None:
    """A sink for output that nobody follows."""
