"""What a rule looks at: the graph with the facts that several rules need, and how rules say what they found."""

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
    """An attribute and what it is written on; both ``node`` and ``edge`` are None for one of the graph."""

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
    """A graph under examination."""

    graph: Graph
    known_types: frozenset[str] = BUILT_IN_TYPES
    default_agent: bool = True

    @cached_property
    def lines(self) -> list[str]:
        """The source text by lines; empty for a graph that was not read from text."""
        return source_lines(self.graph.source) if self.graph.source else []

    @cached_property
    def types(self) -> Mapping[str, str]:
        """Handler type per node id; a ``type`` that nobody knows counts for nothing (Spec 4.2)."""
        return {node.id: self._type_of(node) for node in self.graph.nodes.values()}

    def _type_of(self, node: Node) -> str:
        if node.is_start:
            return START
        if node.is_exit:
            return EXIT
        return node.type if node.type in self.known_types else node.type_by_shape

    def nodes_of(self, *types: str) -> Iterator[Node]:
        """Nodes of any of ``types``, in the order of the file."""
        return (node for node in self.graph.nodes.values() if self.types[node.id] in types)

    @cached_property
    def attributes(self) -> tuple[Written, ...]:
        """Every attribute at its place, once: defaults and chained edges share theirs."""
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
        """By ``Edge.index``: the condition of every edge that has one, or why it does not parse."""
        found: dict[int, Condition | ConditionSyntaxError] = {}
        for edge in self.graph.edges:
            if edge.condition:
                try:
                    found[edge.index] = parse_condition(edge.text("condition"))
                except ConditionSyntaxError as error:
                    found[edge.index] = error
        return found

    def condition_of(self, edge: Edge) -> Condition | None:
        """The edge's condition; None where it has none or it does not parse."""
        condition = self.conditions.get(edge.index)
        return condition if isinstance(condition, Condition) else None

    @cached_property
    def stylesheet(self) -> Stylesheet | StylesheetSyntaxError:
        """The graph's stylesheet, or why it does not parse."""
        try:
            return parse_stylesheet(self.graph.text("model_stylesheet"))
        except StylesheetSyntaxError as error:
            return error


Rule: TypeAlias = Callable[[Subject], Iterable[Diagnostic]]
"""A check: what it finds in a graph. It changes nothing."""


@dataclass(frozen=True, slots=True)
class Report:
    """Makes the diagnostics of one rule."""

    rule: str
    severity: Severity

    def on_node(self, node: Node, message: str, *, attribute: Attribute | None = None, fix: str = "") -> Diagnostic:
        """About a node; at one of its attributes where given."""
        return self._at(attribute.position if attribute else node.position, message, node=node.id, fix=fix)

    def on_edge(self, edge: Edge, message: str, *, attribute: Attribute | None = None, fix: str = "") -> Diagnostic:
        """About an edge; at one of its attributes where given."""
        return self._at(attribute.position if attribute else edge.position, message, edge=str(edge), fix=fix)

    def on_graph(self, message: str, *, attribute: Attribute | None = None, fix: str = "") -> Diagnostic:
        """About the whole pipeline; at one of the graph's attributes where given."""
        return self._at(attribute.position if attribute else Position(0, 0), message, fix=fix)

    def on_attribute(self, written: Written, message: str, fix: str) -> Diagnostic:
        """About an attribute, at its place."""
        node, edge = written.node.id if written.node else "", str(written.edge) if written.edge else ""
        return self._at(written.attribute.position, message, node=node, edge=edge, fix=fix)

    def at(self, place: Position, message: str, *, edge: str = "", fix: str = "") -> Diagnostic:
        """About a place in the text."""
        return self._at(place, message, edge=edge, fix=fix)

    def _at(self, place: Position, message: str, *, node: str = "", edge: str = "", fix: str = "") -> Diagnostic:
        return Diagnostic(self.rule, self.severity, message, place.line, place.column, node=node, edge=edge, fix=fix)


def error(rule: str) -> Report:
    """Reports that stop a run."""
    return Report(rule, Severity.ERROR)


def warning(rule: str) -> Report:
    """Reports of what is probably not meant."""
    return Report(rule, Severity.WARNING)


def info(rule: str) -> Report:
    """Reports that are good to know."""
    return Report(rule, Severity.INFO)


def did_you_mean(name: str, known: Iterable[str], *, otherwise: str = "") -> str:
    """A question after the nearest of ``known``, or ``otherwise`` where nothing is near."""
    folded = {other.casefold(): other for other in known}
    near = get_close_matches(name.casefold(), folded, n=1, cutoff=0.7)
    return f"did you mean '{folded[near[0]]}'?" if near else otherwise
