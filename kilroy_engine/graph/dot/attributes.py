"""Reads the attributes of a statement: values, places, aliases, and attributes that are written twice."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from kilroy_engine.graph.diagnostics import Diagnostic, Severity
from kilroy_engine.graph.dot.errors import MAX_TOKENS, ReadingError, too_large
from kilroy_engine.graph.dot.lexemes import ATTRIBUTE, attributes
from kilroy_engine.graph.model import Attribute, Position
from kilroy_engine.graph.source import unescape
from kilroy_engine.graph.vocabulary import ALIASES, AttributeOwner

if TYPE_CHECKING:
    from lark import Token

_NUMBER_LIKE = re.compile(r"[+-]?\.?\d")
_NUMBER = re.compile(r"-?(?:\d+(?:\.\d+)?|\.\d+)(?:ms|s|m|h|d)?\Z", re.ASCII)


class AttributeReader:
    """Reads the attributes of one DOT text. ``findings`` collects the warnings about them."""

    def __init__(self, text: str) -> None:
        self.findings: list[Diagnostic] = []
        self._text = text
        self._breaks = [-1, *(match.start() for match in re.finditer("\n", text))]
        self._count = 0

    def position(self, offset: int) -> Position:
        """The place of the character at ``offset`` of the text, counted from 0."""
        line = bisect_left(self._breaks, offset)
        return Position(line, offset - self._breaks[line - 1])

    def read(self, tokens: Iterable[Token], owner: AttributeOwner, *, node: str = "", edge: str = "") -> dict[str, Attribute]:
        """The attributes of one statement by key. ``node`` or ``edge`` names the statement's owner in warnings.

        Of two attributes with the same key the last counts, but an attribute's own name counts before an alias.

        Raises:
            ReadingError: A value or separator is wrong, or there are too many attributes.
        """
        found: dict[str, Attribute] = {}
        for token in tokens:
            for match in self._matches(token):
                attribute = self._attribute(match, owner)
                before = found.get(attribute.key)
                if before is None:
                    found[attribute.key] = attribute
                else:
                    found[attribute.key] = self._counting(before, attribute, node, edge)
        return found

    def peek(self, tokens: Iterable[Token], owner: AttributeOwner) -> dict[str, Attribute]:
        """The same result as :meth:`read`, without new findings and without counting the attributes."""
        before = len(self.findings), self._count
        found = self.read(tokens, owner)
        del self.findings[before[0] :]
        self._count = before[1]
        return found

    def find(self, rule: str, message: str, place: Position, *, node: str = "", edge: str = "", fix: str = "") -> None:
        """Adds a warning to ``findings``. Validation reports it later."""
        self.findings.append(
            Diagnostic(rule, Severity.WARNING, message, place.line, place.column, node=node, edge=edge, fix=fix)
        )

    def _matches(self, token: Token) -> Iterator[re.Match[str]]:
        start = token.start_pos or 0
        if token.type == "LIST":
            yield from attributes(self._text, start + 1)
        elif (match := ATTRIBUTE.match(self._text, start)) is not None:
            if match["separator"] == ",":
                raise ReadingError(
                    match.start("separator"), "',' between two statements", "end a statement with ; or a new line"
                )
            yield match

    def _attribute(self, match: re.Match[str], owner: AttributeOwner) -> Attribute:
        written_as, value, at = match["key"] or match["quoted_key"], match["value"], match.start("value")
        key_at = match.start("quoted_key") - 1 if match["key"] is None else match.start("key")
        self._count += 1
        if self._count > MAX_TOKENS:
            raise too_large(at)
        quoted = value[0] == '"'
        if quoted:
            value = unescape(value[1:-1])
        elif _NUMBER_LIKE.match(value) and not _NUMBER.match(value):
            raise ReadingError(
                at,
                f"'{value[:60]}' is neither a number nor a duration",
                f'durations end in ms, s, m, h or d; any other text goes in quotes: "{value[:60]}"',
            )
        key = ALIASES[owner].get(written_as, written_as)
        return Attribute(key, value, self.position(key_at), self.position(at), quoted, written_as)

    def _counting(self, first: Attribute, second: Attribute, node: str, edge: str) -> Attribute:
        """The one of two attributes with the same key that counts. Warns if their values differ."""
        is_alias = second.written_as != second.key and first.written_as == first.key
        kept = first if is_alias else second
        if first.value != second.value:
            if first.written_as == second.written_as:
                message = f"attribute '{second.written_as}' is written twice; the last one counts"
            else:
                names = f"'{first.written_as}' and '{second.written_as}'"
                message = f"{names} name the same attribute; '{kept.written_as}' counts"
            self.find("duplicate_attribute", message, second.position, node=node, edge=edge, fix="remove one of them")
        return kept
