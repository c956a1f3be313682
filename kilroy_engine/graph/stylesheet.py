"""Parses model stylesheets, CSS-like defaults for the model of each node, and applies them to a graph (Spec 8)."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import lru_cache

from kilroy_engine.errors import StylesheetSyntaxError
from kilroy_engine.graph.model import Attribute, Graph, Node
from kilroy_engine.graph.source import excerpt, position_at
from kilroy_engine.graph.vocabulary import STYLE_ALIASES, STYLE_PROPERTIES

_BLANK = re.compile(r"(?:\s++|/\*.*?\*/)*+", re.DOTALL)
_SELECTOR = re.compile(r"\*|[#.]?[A-Za-z0-9_][A-Za-z0-9_.-]*", re.ASCII)
_PROPERTY = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*", re.ASCII)
_VALUE = re.compile(r'"(?:[^"\\]|\\.)*"|\'[^\']*\'|[^;}]*', re.DOTALL)
_SPECIFICITY = {"*": 0, "": 1, ".": 2, "#": 3}


@dataclass(frozen=True, slots=True)
class Declaration:
    """One ``property: value``. ``property`` is the attribute that the declaration sets, ``written_as`` the name in the text.

    ``offset`` is where the declaration begins in the stylesheet's text, counted from 0.
    """

    property: str
    value: str
    written_as: str
    offset: int


@dataclass(frozen=True, slots=True)
class StyleRule:
    """Declarations for the nodes that ``selector`` matches: ``*``, a shape, ``.class`` or ``#id``. ``offset`` counts from 0."""

    selector: str
    declarations: tuple[Declaration, ...]
    offset: int

    @property
    def specificity(self) -> int:
        """0 for ``*``, 1 for a shape, 2 for a class, 3 for an id (Spec 8.3; shapes are Kilroy's)."""
        return _SPECIFICITY["*" if self.selector == "*" else self.selector[0] if self.selector[0] in ".#" else ""]

    def matches(self, node: Node) -> bool:
        """Whether the rule's selector matches ``node``."""
        match self.selector[0]:
            case "*":
                return True
            case ".":
                return self.selector[1:] in node.classes
            case "#":
                return self.selector[1:] == node.id
            case _:
                return self.selector == node.shape


@dataclass(frozen=True, slots=True)
class Stylesheet:
    """The rules of a stylesheet in the order of the text."""

    rules: tuple[StyleRule, ...] = ()

    def properties_for(self, node: Node) -> dict[str, str]:
        """The values of ``STYLE_PROPERTIES`` for ``node``. The most specific rule wins, then the later rule (Spec 8.3)."""
        found: dict[str, str] = {}
        for rule in sorted(self.rules, key=lambda rule: rule.specificity):
            if rule.matches(node):
                found.update((d.property, d.value) for d in rule.declarations if d.property in STYLE_PROPERTIES)
        return found

    def declarations(self) -> Iterable[Declaration]:
        """All declarations in the order of the text."""
        return (declaration for rule in self.rules for declaration in rule.declarations)


@lru_cache(maxsize=64)
def parse_stylesheet(text: str) -> Stylesheet:
    """The stylesheet that ``text`` writes. Blank text has no rules. Unknown properties are kept and set nothing.

    Raises:
        StylesheetSyntaxError: ``text`` breaks the grammar. Line and column count inside ``text``.
    """
    return Stylesheet(tuple(_Scanner(text).rules()))


def apply_stylesheet(graph: Graph) -> Graph:
    """The graph whose nodes have their missing model attributes from the stylesheet, else from the graph (Spec 8.5).

    An attribute that a node writes stays as it is, even if empty. A stylesheet that does not parse changes nothing: the rule
    ``stylesheet_syntax`` reports it.
    """
    sheet = Stylesheet()
    written = graph.attributes.get("model_stylesheet")
    if written is not None:
        try:
            sheet = parse_stylesheet(written.value)
        except StylesheetSyntaxError:
            return graph
    defaults = {name: graph.attributes[name] for name in STYLE_PROPERTIES if name in graph.attributes}
    if not sheet.rules and not defaults:
        return graph
    return replace(graph, nodes={node.id: _styled(node, sheet, written, defaults) for node in graph.nodes.values()})


def _styled(node: Node, sheet: Stylesheet, written: Attribute | None, defaults: dict[str, Attribute]) -> Node:
    added = dict(defaults)
    if written is not None:
        for name, value in sheet.properties_for(node).items():
            added[name] = replace(written, key=name, value=value, written_as=name)
    return replace(node, attributes={**added, **node.attributes})


class _Scanner:
    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0

    def rules(self) -> Iterable[StyleRule]:
        while self._skip() < len(self._text):
            start = self._at
            selector = self._take(_SELECTOR, "a selector: *, a shape, .class or #id")
            if selector.rstrip(".") in ("", "#"):
                raise self._error("a selector without a name", "write .class or #id")
            if self._text[self._skip() : self._at + 1] == ",":
                raise self._error("',' between selectors", "write one rule per selector")
            self._expect("{", f"'{{' after the selector '{selector}'")
            yield StyleRule(selector, tuple(self._declarations(start)), start)

    def _declarations(self, start: int) -> Iterable[Declaration]:
        while self._text[self._skip() : self._at + 1] != "}":
            if self._at >= len(self._text):
                line = position_at(self._text, start).line
                raise self._error(f"the rule that begins at line {line} is never closed", "add the missing }")
            offset = self._at
            name = self._take(_PROPERTY, "a property such as llm_model")
            self._skip()
            self._expect(":", f"':' after '{name}'")
            yield Declaration(STYLE_ALIASES.get(name, name), self._value(name), name, offset)
            if self._text[self._skip() : self._at + 1] == ";":
                self._at += 1
        self._at += 1

    def _value(self, name: str) -> str:
        self._skip()
        start = self._at
        value = self._take(_VALUE, "a value").strip()
        if not value:
            self._at = start
            raise self._error(f"'{name}' has no value", f"write {name}: …;")
        if value[0] in "\"'":
            return value[1:-1]
        if re.search(r"\s[\w-]+\s*:", value) or "{" in value:
            self._at = start + re.search(r"\s|\{", value).start()  # type: ignore[union-attr]  # one of them is in the value
            raise self._error(f"the value of '{name}' runs on", "end every declaration with ; and every rule with }")
        return value

    def _skip(self) -> int:
        self._at = _BLANK.match(self._text, self._at).end()  # type: ignore[union-attr]  # the pattern matches anywhere
        return self._at

    def _take(self, pattern: re.Pattern[str], wanted: str) -> str:
        found = pattern.match(self._text, self._at)
        if found is None:
            raise self._error(f"expected {wanted}, found {self._found()}", "rules are written: .class { llm_model: name; }")
        self._at = found.end()
        return found[0]

    def _expect(self, char: str, wanted: str) -> None:
        if self._text[self._at : self._at + 1] != char:
            raise self._error(f"expected {wanted}, found {self._found()}", "rules are written: .class { llm_model: name; }")
        self._at += 1

    def _found(self) -> str:
        return f"'{self._text[self._at]}'" if self._at < len(self._text) else "the end of the stylesheet"

    def _error(self, message: str, hint: str) -> StylesheetSyntaxError:
        place = position_at(self._text, self._at)
        shown = excerpt(self._text.split("\n"), place.line, place.column)
        return StylesheetSyntaxError(
            message, line=place.line, column=place.column, filename="<model_stylesheet>", excerpt=shown, hint=hint
        )
