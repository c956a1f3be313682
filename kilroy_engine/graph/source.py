"""Places in source text: lines, columns, and the excerpt with a caret that errors and diagnostics show."""

from __future__ import annotations

from collections.abc import Sequence

from kilroy_engine.graph.model import Attribute, Position

_WIDTH = 100
_ESCAPES = {"n": "\n", "t": "\t", '"': '"', "\\": "\\", "\n": ""}


def source_lines(source: str) -> list[str]:
    """The lines of ``source`` as positions count them: without a byte-order mark and without line ends."""
    return [line.removesuffix("\r") for line in source.removeprefix("\ufeff").split("\n")]


def position_at(text: str, offset: int) -> Position:
    """Line and column, both from 1, of character ``offset`` of ``text``."""
    return Position(text.count("\n", 0, offset) + 1, offset - text.rfind("\n", 0, offset))


def excerpt(lines: Sequence[str], line: int, column: int) -> str:
    """The source line with its number and a caret under ``column``, cut around it if long; empty if there is none."""
    if not 1 <= line <= len(lines):
        return ""
    text = lines[line - 1]
    caret = min(column, len(text) + 1) - 1
    start = max(0, caret - _WIDTH * 2 // 3) if len(text) > _WIDTH else 0
    shown = text[start : start + _WIDTH]
    # One cell per character, or the caret would not stand below its place.
    shown = "".join(char if char.isprintable() else " " for char in shown)
    before = "…" if start else ""
    after = "…" if start + _WIDTH < len(text) else ""
    gutter = f"{line:>4} | "
    return f"{gutter}{before}{shown}{after}\n{'| ':>{len(gutter)}}{' ' * (len(before) + caret - start)}^"


def unescape(body: str) -> str:
    r"""Text of a quoted string, given without its quotes. ``\"``, ``\\``, ``\n`` and ``\t`` are the known escapes (Spec 2.2).

    A backslash at the end of a line joins it with the next. Any other backslash stays, so that ``grep \d`` survives.
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
    """Place in the file of character ``offset`` of an attribute's value, escapes and line breaks counted in."""
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
