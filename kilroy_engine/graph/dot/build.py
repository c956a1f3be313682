"""Builds the graph from the parse tree: defaults of blocks, classes of subgraphs, chains of edges."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, TypeAlias, TypeGuard

from kilroy_engine.graph.dot.attributes import AttributeReader
from kilroy_engine.graph.dot.errors import ReadingError
from kilroy_engine.graph.model import Attribute, Edge, Graph, Node, Position
from kilroy_engine.graph.source import unescape
from kilroy_engine.graph.vocabulary import GRAPH_ATTRIBUTES, AttributeOwner

if TYPE_CHECKING:
    from lark import Token, Tree

_QUOTED_ID = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*(?:\.[A-Za-z0-9_-]+)*\Z")
_KEYWORDS = frozenset({"digraph", "graph", "node", "edge", "subgraph"})

_Attributes: TypeAlias = dict[str, Attribute]


def build_graph(tree: Tree[Token], text: str, *, source: str, filename: str) -> Graph:
    """The graph that ``tree`` describes: the parse tree of ``text`` by the grammar ``dot.lark``.

    Raises:
        ReadingError: The text breaks a rule that the grammar cannot express.
    """
    builder = _Builder(AttributeReader(text))
    builder.read(tree)
    return Graph(
        name=_name(tree),
        nodes={node_id: _finished(node_id, draft) for node_id, draft in builder.nodes.items()},
        edges=tuple(builder.edges),
        attributes=builder.attributes,
        source=source,
        filename=filename,
        findings=tuple(builder.reader.findings),
    )


@dataclass(slots=True)
class _Scope:
    """An open block of statements: the graph or a subgraph.

    ``nodes`` and ``edges`` are the default attributes at this point. ``classes`` are those that the subgraphs around give.
    """

    statements: Iterator[Tree[Token] | Token]
    nodes: _Attributes = field(default_factory=dict[str, Attribute])
    edges: _Attributes = field(default_factory=dict[str, Attribute])
    classes: tuple[str, ...] = ()


@dataclass(slots=True)
class _NodeDraft:
    """A node that later statements may extend. ``inherited`` are defaults of blocks, ``explicit`` its own attributes."""

    position: Position
    declared: bool = False
    inherited: _Attributes = field(default_factory=dict[str, Attribute])
    explicit: _Attributes = field(default_factory=dict[str, Attribute])
    classes: tuple[str, ...] = ()


class _Builder:
    """Collects the graph's attributes, nodes and edges while it goes through the parse tree."""

    def __init__(self, reader: AttributeReader) -> None:
        self.reader = reader
        self.attributes: _Attributes = {}
        self.nodes: dict[str, _NodeDraft] = {}
        self.edges: list[Edge] = []

    def read(self, tree: Tree[Token]) -> None:
        scopes = [_Scope(iter(tree.children))]
        while scopes:
            # A list of open scopes in place of recursion: a text may nest subgraphs deeper than Python's recursion limit.
            statement = next(scopes[-1].statements, None)
            if statement is None:
                scopes.pop()
            elif _is_tree(statement):
                self._statement(statement, scopes)

    def _statement(self, statement: Tree[Token], scopes: list[_Scope]) -> None:
        scope, is_root = scopes[-1], len(scopes) == 1
        if statement.data == "subgraph":
            own = self._label_class(statement)
            classes = (own, *(c for c in scope.classes if c != own)) if own else scope.classes
            scopes.append(_Scope(iter(statement.children), dict(scope.nodes), dict(scope.edges), classes))
            return
        tokens = _tokens(statement)
        match statement.data, tokens[0].type:
            case "node", _:
                self._declare(tokens, scope)
            case "edges", _:
                self._connect(tokens, scope)
            case "defaults", "NODE":
                scope.nodes |= self.reader.read(tokens[1:], AttributeOwner.NODE)
            case "defaults", "EDGE":
                scope.edges |= self.reader.read(tokens[1:], AttributeOwner.EDGE)
            case "defaults", _:
                self._assign(tokens[1:], is_root=is_root)
            case _:
                self._assign(tokens, is_root=is_root)

    def _declare(self, tokens: list[Token], scope: _Scope) -> None:
        node_id = _node_id(tokens[0])
        explicit = self.reader.read(tokens[1:], AttributeOwner.NODE, node=node_id)
        position = self._position(tokens[0])
        draft = self.nodes.get(node_id)
        if draft is None or not draft.declared:
            # An earlier edge may have named the node. The declaration's place and defaults count.
            fresh = _NodeDraft(position, declared=True, inherited=dict(scope.nodes), explicit=explicit, classes=scope.classes)
            self.nodes[node_id] = fresh
            return
        if draft.explicit and explicit:
            self.reader.find(
                "duplicate_node",
                f"node '{node_id}' is declared again; its attributes are merged (first at line {draft.position.line})",
                position,
                node=node_id,
                fix="write all attributes of a node in one place",
            )
        draft.inherited |= scope.nodes
        draft.explicit |= explicit
        draft.classes += tuple(c for c in scope.classes if c not in draft.classes)

    def _connect(self, tokens: list[Token], scope: _Scope) -> None:
        ids = [token for token in tokens if token.type != "LIST"]
        names = [_node_id(token) for token in ids]
        own = self.reader.read(tokens[len(ids) :], AttributeOwner.EDGE, edge=f"{names[0]} -> {names[1]}")
        attributes = {**scope.edges, **own}
        for name, token in zip(names, ids, strict=True):
            if name not in self.nodes:
                draft = _NodeDraft(self._position(token), inherited=dict(scope.nodes), classes=scope.classes)
                self.nodes[name] = draft
        for token, (source, target) in zip(ids, pairwise(names), strict=False):
            self.edges.append(Edge(source, target, self._position(token), len(self.edges), attributes))

    def _assign(self, tokens: list[Token], *, is_root: bool) -> None:
        attributes = self.reader.read(tokens, AttributeOwner.GRAPH)
        for attribute in attributes.values():
            if attribute.key in _KEYWORDS:
                raise ReadingError(
                    tokens[0].start_pos or 0,
                    f"'{attribute.key}' is a keyword and cannot be an attribute of the graph",
                    f"default attributes are written: {attribute.key} [key=value]",
                )
            if not is_root and attribute.key != "label" and attribute.key in GRAPH_ATTRIBUTES:
                self.reader.find(
                    "subgraph_attribute",
                    f"'{attribute.written_as}' inside a subgraph has no effect: it is an attribute of the whole pipeline",
                    attribute.position,
                    fix="move it out of the subgraph",
                )
        if is_root:
            self.attributes |= attributes

    def _label_class(self, subgraph: Tree[Token]) -> str:
        """The class that a subgraph's label gives to the subgraph's nodes (Spec 2.10); empty without a label."""
        label = ""
        for statement in subgraph.children:
            if _is_tree(statement) and statement.data in ("assignment", "defaults"):
                tokens = _tokens(statement)
                if tokens[0].type in ("ATTRIBUTE", "GRAPH"):
                    # peek, because the statement is read again later, and its findings must not be there twice.
                    found = self.reader.peek([token for token in tokens if token.type != "GRAPH"], AttributeOwner.GRAPH)
                    label = found["label"].value if "label" in found else label
        return re.sub(r"[^a-z0-9-]", "", re.sub(r"\s", "-", label.lower())).strip("-")

    def _position(self, token: Token) -> Position:
        return self.reader.position(token.start_pos or 0)


def _is_tree(child: Tree[Token] | Token) -> TypeGuard[Tree[Token]]:
    return hasattr(child, "children")


def _tokens(statement: Tree[Token]) -> list[Token]:
    return statement.children  # type: ignore[return-value]  # every statement of the grammar but subgraph holds tokens only


def _name(tree: Tree[Token]) -> str:
    first = tree.children[0] if tree.children else None
    return "" if first is None or _is_tree(first) else _id_text(str(first))


def _id_text(written: str) -> str:
    return unescape(written[1:-1]) if written.startswith('"') else written


def _node_id(token: Token) -> str:
    """The node id that a token writes. The id becomes a folder name and a part of a git ref, so not every text is allowed.

    Raises:
        ReadingError: The text cannot be a node id.
    """
    if token.type == "NAME":
        if token.value in _KEYWORDS:
            raise ReadingError(
                token.start_pos or 0,
                f"'{token.value}' is a keyword and cannot name a node",
                f'choose another id, such as {token.value}_1; the label may say "{token.value}"',
            )
        return token.value
    node_id = _id_text(token.value)
    if not _QUOTED_ID.match(node_id):
        raise ReadingError(
            token.start_pos or 0,
            f"'{node_id[:60]}' cannot be a node id",
            "a quoted id begins with a letter or _ and goes on with letters, digits, _ - and single dots; "
            "other text goes in the label",
        )
    return node_id


def _finished(node_id: str, draft: _NodeDraft) -> Node:
    attributes = {**draft.inherited, **draft.explicit}
    written = attributes.get("class")
    classes = draft.classes
    if written is not None:
        classes += tuple(name.strip() for name in written.value.split(",") if name.strip())
    return Node(node_id, draft.position, attributes, tuple(dict.fromkeys(classes)), draft.declared)
