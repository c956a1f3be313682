"""The input and output of rules: the graph with facts that several rules need, and the maker of diagnostics."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cached_property
from typing import TypeAlias

from kilroy_engine.errors import ConditionSyntaxError, StylesheetSyntaxError
from kilroy_engine.graph.conditions import Condition, parse_condition
from kilroy_engine.graph.diagnostics import Diagnostic, Severity
from kilroy_engine.graph.model import Attribute, Edge, Graph, Node, Position
from kilroy_engine.graph.node_types import BUILT_IN_TYPES, EXIT, START
from kilroy_engine.graph.source import source_lines
from kilroy_engine.graph.stylesheet import Stylesheet, parse_stylesheet
from kilroy_engine.graph.vocabulary import AttributeOwner


@dataclass(frozen=True, slots=True)
class Written:
    """An attribute with its owner. ``node`` and ``edge`` are both None for an attribute of the graph."""

    attribute: Attribute
    owner: AttributeOwner = AttributeOwner.GRAPH
    node: Node | None = None
    edge: Edge | None = None

    @property
    def where(self) -> str:
        """The owner in words for a message."""
        return f"node '{self.node.id}'" if self.node else f"edge {self.edge}" if self.edge else "graph"


@dataclass(frozen=True)
class Subject:
    """The graph that the rules check, with facts that are computed once.

    ``known_types`` are the types that have a handler. ``default_agent`` says whether nodes without a provider have an agent.
    """

    graph: Graph
    known_types: frozenset[str] = BUILT_IN_TYPES
    default_agent: bool = True

    @cached_property
    def lines(self) -> list[str]:
        """The lines of the graph's source text; empty for a graph that was not read from text."""
        return source_lines(self.graph.source) if self.graph.source else []

    @cached_property
    def types(self) -> Mapping[str, str]:
        """Node id -> the type that the node runs as. For an unknown ``type`` it is the type of the shape (Spec 4.2)."""
        return {node.id: self._type_of(node) for node in self.graph.nodes.values()}

    def _type_of(self, node: Node) -> str:
        if node.is_start:
            return START
        if node.is_exit:
            return EXIT
        return node.type if node.type in self.known_types else node.type_by_shape

    def nodes_of(self, *types: str) -> Iterator[Node]:
        """The nodes that run as one of ``types``, in the order of the file."""
        return (node for node in self.graph.nodes.values() if self.types[node.id] in types)

    @cached_property
    def attributes(self) -> tuple[Written, ...]:
        """Every attribute of the text once, with its first owner. A default, or a chain of edges, has several owners."""
        found = [Written(attribute) for attribute in self.graph.attributes.values()]
        seen: set[int] = set()
        for node in self.graph.nodes.values():
            found += (Written(a, AttributeOwner.NODE, node=node) for a in node.attributes.values() if id(a) not in seen)
            seen.update(map(id, node.attributes.values()))
        for edge in self.graph.edges:
            found += (Written(a, AttributeOwner.EDGE, edge=edge) for a in edge.attributes.values() if id(a) not in seen)
            seen.update(map(id, edge.attributes.values()))
        return tuple(found)

    @cached_property
    def conditions(self) -> Mapping[int, Condition | ConditionSyntaxError]:
        """``Edge.index`` -> the condition of the edge, or the error of a condition that does not parse."""
        found: dict[int, Condition | ConditionSyntaxError] = {}
        for edge in self.graph.edges:
            if edge.condition:
                try:
                    found[edge.index] = parse_condition(edge.text("condition"))
                except ConditionSyntaxError as error:
                    found[edge.index] = error
        return found

    def condition_of(self, edge: Edge) -> Condition | None:
        """The edge's condition; None for an edge without a condition that parses."""
        condition = self.conditions.get(edge.index)
        return condition if isinstance(condition, Condition) else None

    @cached_property
    def stylesheet(self) -> Stylesheet | StylesheetSyntaxError:
        """The graph's model stylesheet, or the error of a stylesheet that does not parse."""
        try:
            return parse_stylesheet(self.graph.text("model_stylesheet"))
        except StylesheetSyntaxError as error:
            return error


Rule: TypeAlias = Callable[[Subject], Iterable[Diagnostic]]
"""A check on a graph. It returns its findings and changes nothing."""


@dataclass(frozen=True, slots=True)
class Report:
    """Makes the diagnostics of one rule, all with the same severity."""

    rule: str
    severity: Severity

    def on_node(self, node: Node, message: str, *, attribute: Attribute | None = None, fix: str = "") -> Diagnostic:
        """A diagnostic about ``node``, at the place of ``attribute`` if given."""
        return self._at(attribute.position if attribute else node.position, message, node=node.id, fix=fix)

    def on_edge(self, edge: Edge, message: str, *, attribute: Attribute | None = None, fix: str = "") -> Diagnostic:
        """A diagnostic about ``edge``, at the place of ``attribute`` if given."""
        return self._at(attribute.position if attribute else edge.position, message, edge=str(edge), fix=fix)

    def on_graph(self, message: str, *, attribute: Attribute | None = None, fix: str = "") -> Diagnostic:
        """A diagnostic about the whole pipeline, at the place of the graph's ``attribute`` if given."""
        return self._at(attribute.position if attribute else Position(0, 0), message, fix=fix)

    def on_attribute(self, written: Written, message: str, fix: str) -> Diagnostic:
        """A diagnostic about the attribute ``written``, at its place."""
        node, edge = written.node.id if written.node else "", str(written.edge) if written.edge else ""
        return self._at(written.attribute.position, message, node=node, edge=edge, fix=fix)

    def at(self, place: Position, message: str, *, edge: str = "", fix: str = "") -> Diagnostic:
        """A diagnostic about ``place`` in the text."""
        return self._at(place, message, edge=edge, fix=fix)

    def _at(self, place: Position, message: str, *, node: str = "", edge: str = "", fix: str = "") -> Diagnostic:
        return Diagnostic(self.rule, self.severity, message, place.line, place.column, node=node, edge=edge, fix=fix)


def error(rule: str) -> Report:
    """Makes diagnostics of ``rule`` that stop a run."""
    return Report(rule, Severity.ERROR)


def warning(rule: str) -> Report:
    """Makes diagnostics of ``rule`` about text that its writer probably does not mean."""
    return Report(rule, Severity.WARNING)


def info(rule: str) -> Report:
    """Makes diagnostics of ``rule`` that are good to know."""
    return Report(rule, Severity.INFO)


def did_you_mean(name: str, known: Iterable[str], *, otherwise: str = "") -> str:
    """The question "did you mean" with the nearest name of ``known``; ``otherwise`` where no name is near."""
    folded = {other.casefold(): other for other in known}
    near = get_close_matches(name.casefold(), folded, n=1, cutoff=0.7)
    return f"did you mean '{folded[near[0]]}'?" if near else otherwise
