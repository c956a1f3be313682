"""A stage's output: where its lines go while they come, and how they are shown."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TypeAlias

OutputSink: TypeAlias = Callable[[str, str], None]
"""Called with (stream, line): stream is ``stdout`` or ``stderr``, the line has no newline and is not empty."""


# Of what terminals take (ECMA-48): control sequences, texts such as titles and links, and the short ones.
_ESCAPE = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\-_])")


def discard_output(stream: str, line: str) -> None:
    """A sink for output that nobody follows."""


def without_escapes(text: str) -> str:
    """The text without colors and whatever else a terminal is told by escape sequences."""
    return _ESCAPE.sub("", text)


def printable_lines(output: bytes) -> list[str]:
    """Lines of it that are not blank, as plain text; a progress bar that draws over itself is a line for each time."""
    lines = re.split(r"[\r\n]+", without_escapes(output.decode("utf-8", "replace")))
    printable = ("".join(c if c.isprintable() else " " for c in line).rstrip() for line in lines)
    return [line for line in printable if line]
