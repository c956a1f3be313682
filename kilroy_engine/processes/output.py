"""A stage's output: the function that takes its lines while the stage works, and how output becomes readable text."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TypeAlias

OutputSink: TypeAlias = Callable[[str, str], None]
"""Called with (stream, line) for each line. ``stream`` is ``stdout`` or ``stderr``. The line is not empty and has no newline.
"""


# Escape sequences of terminals (ECMA-48): control sequences, texts such as titles and links, two-character sequences.
_ESCAPE = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\-_])")


def discard_output(stream: str, line: str) -> None:
    """Drops the line."""


def without_escapes(text: str) -> str:
    """The text without colors and other escape sequences of a terminal."""
    return _ESCAPE.sub("", text)


def printable_lines(output: bytes) -> list[str]:
    """The lines of ``output`` that are not blank, as plain text. Each state of a progress bar is a line of its own."""
    lines = re.split(r"[\r\n]+", without_escapes(output.decode("utf-8", "replace")))
    printable = ("".join(c if c.isprintable() else " " for c in line).rstrip() for line in lines)
    return [line for line in printable if line]
