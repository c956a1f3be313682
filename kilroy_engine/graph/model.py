"""The values that describe a pipeline: graph, node, edge, attribute. Immutable, picklable, free of I/O.

An attribute keeps its value as text, together with the place in the source. The typed properties read the text. They return the
default for a value that does not fit, because the rule ``attribute_value`` reports such a value with its line and column.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from kilroy_engine.graph.attributes import read_bool, read_duration_s, read_int
from kilroy_engine.graph.diagnostics import Diagnostic
from kilroy_engine.graph.node_types import AGENT, BUILT_IN_TYPES, EXIT, SHAPE_TO_TYPE, START, TYPE_BY_ID, TYPE_BY_OTHER_NAME


@dataclass(frozen=True, slots=True, order=True)
class Position:
    """A place in the source text. ``line`` and ``column`` count from 1, columns in characters."""

    line: int
    column: int


@dataclass(frozen=True, slots=True)
class Attribute:
    """One ``key=value`` of the source text.

    ``key`` is the attribute's name after aliases are resolved; ``written_as`` is the name in the source. ``value`` is the text
    without escapes; ``quoted`` tells ``"42"`` from ``42``. ``position`` is where the key begins, ``value_position`` the value.
    """

    key: str
    value: str
    position: Position
    value_position: Position
    quoted: bool = True
    written_as: str = ""


@dataclass(frozen=True)
class Node:
    """A node of the pipeline. ``declared`` is false when only edges name the node. ``classes`` are its stylesheet classes."""

    id: str
    position: Position
    attributes: Mapping[str, Attribute] = field(default_factory=dict[str, Attribute])
    classes: tuple[str, ...] = ()
    declared: bool = True

    def text(self, key: str, default: str = "") -> str:
        """Value of attribute ``key`` as written, or ``default`` where it is absent."""
        attribute = self.attributes.get(key)
        return default if attribute is None else attribute.value

    def has(self, key: str) -> bool:
        """Whether the attribute ``key`` is written and not blank."""
        return bool(self.text(key).strip())

    @property
    def label(self) -> str:
        return self.text("label") or self.id

    @property
    def shape(self) -> str:
        return self.text("shape") or "box"

    @property
    def type(self) -> str:
        """The node's type: the attribute ``type`` with other names resolved, else :attr:`type_by_shape` (Spec 2.8)."""
        explicit = self.text("type").strip()
        return TYPE_BY_OTHER_NAME.get(explicit, explicit) if explicit else self.type_by_shape

    @property
    def type_by_shape(self) -> str:
        """The type that the node's shape means. A node with an unknown ``type`` runs with this type (Spec 4.2).

        A plain box with the id ``start``, ``exit`` or ``end`` is a start or an exit node (Spec 3.2, 7.2).
        """
        if self.shape == "box":
            by_id = TYPE_BY_ID.get(self.id.lower())
            if by_id:
                return by_id
        return SHAPE_TO_TYPE.get(self.shape, AGENT)

    @property
    def is_start(self) -> bool:
        return self._marks(START)

    @property
    def is_exit(self) -> bool:
        return self._marks(EXIT)

    def _marks(self, marker: str) -> bool:
        # A plug-in's type replaces the handler only: by its shape the node is still the start or an exit.
        return self.type == marker or (self.type_by_shape == marker and self.type not in BUILT_IN_TYPES)

    @property
    def prompt(self) -> str:
        return self.text("prompt")

    @property
    def tool_command(self) -> str:
        return self.text("tool_command")

    @property
    def goal_gate(self) -> bool:
        return read_bool(self.text("goal_gate"), default=False)

    @property
    def allow_partial(self) -> bool:
        return read_bool(self.text("allow_partial"), default=False)

    @property
    def auto_status(self) -> bool:
        return read_bool(self.text("auto_status"), default=False)

    @property
    def max_retries(self) -> int | None:
        """How many attempts may follow a failed one; None where the node does not say (Spec 2.6)."""
        return read_int(self.text("max_retries"), default=None)

    @property
    def max_node_visits(self) -> int | None:
        return read_int(self.text("max_node_visits"), default=None)

    @property
    def timeout_s(self) -> float | None:
        """The time limit of one attempt in seconds; None where the node sets no limit (Spec 2.6)."""
        return read_duration_s(self.text("timeout"), default=None)

    @property
    def retry_targets(self) -> tuple[str, ...]:
        """The node's ``retry_target`` and ``fallback_retry_target`` in this order; blank ones are left out."""
        return tuple(t for t in (self.text("retry_target").strip(), self.text("fallback_retry_target").strip()) if t)


@dataclass(frozen=True)
class Edge:
    """A directed edge between two node ids. ``index`` is the edge's number in the order of the file, from 0."""

    source: str
    target: str
    position: Position
    index: int = 0
    attributes: Mapping[str, Attribute] = field(default_factory=dict[str, Attribute])

    def text(self, key: str, default: str = "") -> str:
        """Value of attribute ``key`` as written, or ``default`` where it is absent."""
        attribute = self.attributes.get(key)
        return default if attribute is None else attribute.value

    @property
    def label(self) -> str:
        return self.text("label")

    @property
    def condition(self) -> str:
        return self.text("condition").strip()

    @property
    def weight(self) -> int:
        return read_int(self.text("weight"), default=0) or 0

    @property
    def loop_restart(self) -> bool:
        return read_bool(self.text("loop_restart"), default=False)

    def __str__(self) -> str:
        return f"{self.source} -> {self.target}"


@dataclass(frozen=True)
class Graph:
    """A pipeline. ``nodes`` maps ids to nodes in the order of the file.

    ``source`` is the text that the graph was read from, ``filename`` the name of its file. ``findings`` are diagnostics of
    reading and transforming that the finished graph does not show, such as an attribute written twice. Validation reports them
    with its own diagnostics.
    """

    name: str
    nodes: Mapping[str, Node]
    edges: tuple[Edge, ...]
    attributes: Mapping[str, Attribute] = field(default_factory=dict[str, Attribute])
    source: str = ""
    filename: str = ""
    findings: tuple[Diagnostic, ...] = ()

    def text(self, key: str, default: str = "") -> str:
        """Value of the graph attribute ``key`` as written, or ``default`` where it is absent."""
        attribute = self.attributes.get(key)
        return default if attribute is None else attribute.value

    def integer(self, key: str, default: int) -> int:
        """Value of the graph attribute ``key`` as a whole number, or ``default`` where it is absent or no number."""
        value = read_int(self.text(key), default=None)
        return default if value is None else value

    @property
    def goal(self) -> str:
        return self.text("goal")

    @cached_property
    def _outgoing(self) -> Mapping[str, tuple[Edge, ...]]:
        grouped: dict[str, list[Edge]] = {}
        for edge in self.edges:
            grouped.setdefault(edge.source, []).append(edge)
        return {source: tuple(edges) for source, edges in grouped.items()}

    @cached_property
    def _incoming(self) -> Mapping[str, tuple[Edge, ...]]:
        grouped: dict[str, list[Edge]] = {}
        for edge in self.edges:
            grouped.setdefault(edge.target, []).append(edge)
        return {target: tuple(edges) for target, edges in grouped.items()}

    def outgoing(self, node_id: str) -> tuple[Edge, ...]:
        """Edges that leave the node, in the order of the file."""
        return self._outgoing.get(node_id, ())

    def incoming(self, node_id: str) -> tuple[Edge, ...]:
        """Edges that enter the node, in the order of the file."""
        return self._incoming.get(node_id, ())

    @cached_property
    def start(self) -> Node | None:
        """The first start node of the file; None where there is none. A valid graph has exactly one (Spec 3.2)."""
        return next((node for node in self.nodes.values() if node.is_start), None)

    @cached_property
    def exits(self) -> tuple[Node, ...]:
        return tuple(node for node in self.nodes.values() if node.is_exit)
