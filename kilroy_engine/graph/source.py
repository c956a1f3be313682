"""Finds places in source text: line, column, and the excerpt with a caret that errors and diagnostics show."""

from __future__ import annotations

from collections.abc import Sequence

from kilroy_engine.graph.model import Attribute, Position

_WIDTH = 100
_ESCAPES = {"n": "\n", "t": "\t", '"': '"', "\\": "\\", "\n": ""}


def source_lines(source: str) -> list[str]:
    """The lines of ``source`` without line ends and without a byte-order mark. :class:`Position` counts these lines."""
    return [line.removesuffix("\r") for line in source.removeprefix("\ufeff").split("\n")]


def position_at(text: str, offset: int) -> Position:
    """The place of the character at ``offset`` in ``text``. ``offset`` counts from 0."""
    return Position(text.count("\n", 0, offset) + 1, offset - text.rfind("\n", 0, offset))


def excerpt(lines: Sequence[str], line: int, column: int) -> str:
    """The source line with its number, and a caret below ``column``. Empty where ``lines`` has no such line.

    A long line is cut to the part around ``column``.
    """
    if not 1 <= line <= len(lines):
        return ""
    text = lines[line - 1]
    caret = min(column, len(text) + 1) - 1
    start = max(0, caret - _WIDTH * 2 // 3) if len(text) > _WIDTH else 0
    shown = text[start : start + _WIDTH]
    # A tab or control character becomes one blank: else the caret would not be below its place.
    shown = "".join(char if char.isprintable() else " " for char in shown)
    before = "…" if start else ""
    after = "…" if start + _WIDTH < len(text) else ""
    gutter = f"{line:>4} | "
    return f"{gutter}{before}{shown}{after}\n{'| ':>{len(gutter)}}{' ' * (len(before) + caret - start)}^"


def unescape(body: str) -> str:
    r"""The text of a quoted string. ``body`` is the string without quotes. Escapes: ``\"``, ``\\``, ``\n``, ``\t`` (Spec 2.2).

    A backslash at the end of a line joins the line with the next. Any other backslash stays, as in ``grep \d``.
    """
    if "\\" not in body:
        return body
    out: list[str] = []
    at = 0
    while (slash := body.find("\\", at)) >= 0:
        follower = body[slash + 1 : slash + 2]
        out += body[at:slash], _ESCAPES.get(follower, "\\" + follower)
        at = slash + 2
    out.append(body[at:])
    return "".join(out)


def position_in_value(lines: Sequence[str], attribute: Attribute, offset: int) -> Position:
    """The place in the file, whose lines are ``lines``, of the character at ``offset`` in the attribute's unescaped value."""
    start = attribute.value_position
    if not attribute.quoted:
        return Position(start.line, start.column + offset)
    line, at = start.line, start.column  # `at` is the index after the opening quote
    while offset > 0 and line <= len(lines):
        text = lines[line - 1]
        if at >= len(text):
            line, at, offset = line + 1, 0, offset - 1
        elif text[at] != "\\":
            at, offset = at + 1, offset - 1
        elif at + 1 >= len(text):
            line, at = line + 1, 0
        else:
            offset -= 1 if text[at + 1] in _ESCAPES else 2
            at += 2
    return Position(line, at + 1)
