"""From the parse tree to the graph: scopes of defaults, classes of subgraphs, chains of edges, aliases of attributes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, TypeGuard

from kilroy_engine.graph.diagnostics import Diagnostic, Severity
from kilroy_engine.graph.dot_errors import ReadingError
from kilroy_engine.graph.model import Attribute, Edge, Graph, Node, Position
from kilroy_engine.graph.source import unescape
from kilroy_engine.graph.vocabulary import ALIASES, GRAPH_ATTRIBUTES, Owner

if TYPE_CHECKING:
    from lark import Token, Tree

_QUOTED_ID = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*(?:\.[A-Za-z0-9_-]+)*\Z")
_KEYWORDS = frozenset({"digraph", "graph", "node", "edge", "subgraph"})
_ATTRIBUTE = re.compile(
    r"(?P<key>[A-Za-z_][\w.]*+)(?:\s++|//[^\n]*+|/\*.*?\*/)*+=(?:\s++|//[^\n]*+|/\*.*?\*/)*+"
    r'(?:"(?P<text>(?:[^"\\]++|\\.)*+)"|(?P<bare>(?:[A-Za-z0-9_.:+]|-(?!>)|/(?![/*]))++))',
    re.DOTALL | re.ASCII,
)
_COMMA_AFTER = re.compile(_ATTRIBUTE.pattern + r"(?:\s++|//[^\n]*+|/\*.*?\*/)*+(?P<comma>,)", _ATTRIBUTE.flags)
_NUMBER_LIKE = re.compile(r"[+-]?\.?\d")
_NUMBER = re.compile(r"-?(?:\d+(?:\.\d+)?|\.\d+)(?:ms|s|m|h|d)?\Z", re.ASCII)

_Attributes = dict[str, Attribute]


def build_graph(tree: Tree[Token], *, source: str, filename: str) -> Graph:
    """The graph of a parse tree of ``dot.lark``. Raises :class:`ReadingError` for what the grammar cannot say."""
    return _Builder(source, filename).build(tree)


@dataclass(slots=True)
class _Scope:
    """A block of statements with the defaults in force there, and the classes that its subgraphs give."""

    statements: Iterator[Tree[Token] | Token]
    nodes: _Attributes = field(default_factory=dict[str, Attribute])
    edges: _Attributes = field(default_factory=dict[str, Attribute])
    classes: tuple[str, ...] = ()


@dataclass(slots=True)
class _NodeDraft:
    position: Position
    declared: bool = False
    inherited: _Attributes = field(default_factory=dict[str, Attribute])
    explicit: _Attributes = field(default_factory=dict[str, Attribute])
    classes: tuple[str, ...] = ()


class _Builder:
    def __init__(self, source: str, filename: str) -> None:
        self._source = source
        self._filename = filename
        self._attributes: _Attributes = {}
        self._nodes: dict[str, _NodeDraft] = {}
        self._edges: list[Edge] = []
        self._findings: list[Diagnostic] = []

    def build(self, tree: Tree[Token]) -> Graph:
        name = ""
        if tree.children and not _is_tree(tree.children[0]):
            name = _id_text(tree.children[0])
        scopes = [_Scope(iter(tree.children))]
        while scopes:
            # Nested subgraphs are a list of open scopes, never recursion: depth is the writer's choice.
            statement = next(scopes[-1].statements, None)
            if statement is None:
                scopes.pop()
            elif _is_tree(statement):
                self._statement(statement, scopes)
        return Graph(
            name=name,
            nodes={node_id: _finished(node_id, draft) for node_id, draft in self._nodes.items()},
            edges=tuple(self._edges),
            attributes=self._attributes,
            source=self._source,
            filename=self._filename,
            findings=tuple(self._findings),
        )

    def _statement(self, statement: Tree[Token], scopes: list[_Scope]) -> None:
        scope = scopes[-1]
        tokens = statement.children
        match str(statement.data):
            case "node":
                self._declare(_only_tokens(tokens), scope)
            case "edges":
                self._connect(_only_tokens(tokens), scope)
            case "defaults":
                self._set_defaults(_only_tokens(tokens), scopes)
            case "assignment":
                _refuse_comma(_only_tokens(tokens)[0])
                self._assign(_only_tokens(tokens), is_root=len(scopes) == 1)
            case "subgraph":
                own = _label_class(statement)
                classes = (own, *(c for c in scope.classes if c != own)) if own else scope.classes
                scopes.append(_Scope(iter(tokens), dict(scope.nodes), dict(scope.edges), classes))
            case rule:  # pragma: no cover
                raise AssertionError(f"grammar rule {rule} is not handled")

    def _declare(self, tokens: list[Token], scope: _Scope) -> None:
        node_id = _node_id(tokens[0])
        explicit = self._read_all(tokens[1:], Owner.NODE, node=node_id)
        position = _position(tokens[0])
        draft = self._nodes.setdefault(node_id, _NodeDraft(position))
        if not draft.declared:
            draft.declared, draft.position = True, position
            draft.inherited = {}  # of the edge that named it first; the place of the declaration counts
            draft.classes = ()
        elif draft.explicit and explicit:
            self._find(
                "duplicate_node",
                f"node '{node_id}' is declared again; its attributes are merged (first at line {draft.position.line})",
                position,
                node=node_id,
                fix="write all attributes of a node in one place",
            )
        draft.inherited = {**draft.inherited, **scope.nodes}
        draft.explicit = {**draft.explicit, **explicit}
        draft.classes += tuple(c for c in scope.classes if c not in draft.classes)

    def _connect(self, tokens: list[Token], scope: _Scope) -> None:
        ids = [token for token in tokens if token.type != "ATTRIBUTE"]
        names = [_node_id(token) for token in ids]
        edge = f"{names[0]} -> {names[1]}"
        attributes = {**scope.edges, **self._read_all(tokens[len(ids) :], Owner.EDGE, edge=edge)}
        for name, token in zip(names, ids, strict=True):
            if name not in self._nodes:
                self._nodes[name] = _NodeDraft(_position(token), inherited=dict(scope.nodes), classes=scope.classes)
        for at, (source, target) in enumerate(pairwise(names)):
            self._edges.append(Edge(source, target, _position(ids[at]), len(self._edges), attributes))

    def _set_defaults(self, tokens: list[Token], scopes: list[_Scope]) -> None:
        match tokens[0].type:
            case "NODE":
                scopes[-1].nodes |= self._read_all(tokens[1:], Owner.NODE)
            case "EDGE":
                scopes[-1].edges |= self._read_all(tokens[1:], Owner.EDGE)
            case _:
                self._assign(tokens[1:], is_root=len(scopes) == 1)

    def _assign(self, tokens: list[Token], *, is_root: bool) -> None:
        attributes = self._read_all(tokens, Owner.GRAPH)
        for attribute in attributes.values():
            if attribute.key in _KEYWORDS:
                raise ReadingError(
                    tokens[0].start_pos or 0,
                    f"'{attribute.key}' is a keyword and cannot be an attribute of the graph",
                    f"default attributes are written: {attribute.key} [key=value]",
                )
            if not is_root and attribute.key != "label" and attribute.key in GRAPH_ATTRIBUTES:
                self._find(
                    "subgraph_attribute",
                    f"'{attribute.written_as}' inside a subgraph has no effect: it is an attribute of the whole pipeline",
                    attribute.position,
                    fix="move it out of the subgraph",
                )
        if is_root:
            self._attributes |= attributes

    def _read_all(self, tokens: Iterable[Token], owner: Owner, *, node: str = "", edge: str = "") -> _Attributes:
        """Attributes of one statement. Of those written twice the last counts, a true name before an alias; it is reported."""
        attributes: _Attributes = {}
        for token in tokens:
            attribute = _read_attribute(token, owner)
            before = attributes.get(attribute.key)
            if before is None:
                attributes[attribute.key] = attribute
                continue
            is_alias = attribute.written_as != attribute.key and before.written_as == before.key
            attributes[attribute.key] = before if is_alias else attribute
            if attribute.value != before.value:
                self._find(
                    "duplicate_attribute",
                    _twice(attribute, before, kept=before if is_alias else attribute),
                    attribute.position,
                    node=node,
                    edge=edge,
                    fix="remove one of them",
                )
        return attributes

    def _find(self, rule: str, message: str, position: Position, *, node: str = "", edge: str = "", fix: str = "") -> None:
        self._findings.append(
            Diagnostic(rule, Severity.WARNING, message, position.line, position.column, node=node, edge=edge, fix=fix)
        )


def _refuse_comma(assignment: Token) -> None:
    if (comma := _COMMA_AFTER.search(assignment)) is not None:
        offset = (assignment.start_pos or 0) + comma.start("comma")
        raise ReadingError(offset, "',' between two statements", "end a statement with ; or a new line")


def _twice(second: Attribute, first: Attribute, *, kept: Attribute) -> str:
    if second.written_as == first.written_as:
        return f"attribute '{second.written_as}' is written twice; the last one counts"
    return f"'{first.written_as}' and '{second.written_as}' name the same attribute; '{kept.written_as}' counts"


def _is_tree(child: Tree[Token] | Token) -> TypeGuard[Tree[Token]]:
    return hasattr(child, "children")


def _only_tokens(children: list[Token | Tree[Token]]) -> list[Token]:
    return children  # type: ignore[return-value]  # but for subgraph and start, rules of the grammar hold tokens only


def _position(token: Token) -> Position:
    return Position(token.line or 1, token.column or 1)


def _id_text(token: Token | Tree[Token]) -> str:
    text = str(token)
    return unescape(text[1:-1]) if text.startswith('"') else text


def _node_id(token: Token) -> str:
    """The id that a token names, checked: it becomes a folder name and part of a git ref."""
    if token.type == "NAME":
        if token.value in _KEYWORDS:
            raise ReadingError(
                token.start_pos or 0,
                f"'{token.value}' is a keyword and cannot name a node",
                f'choose another id, such as {token.value}_1; the label may say "{token.value}"',
            )
        return token.value
    node_id = _id_text(token)
    if not _QUOTED_ID.match(node_id):
        raise ReadingError(
            token.start_pos or 0,
            f"'{node_id[:60]}' cannot be a node id",
            "a quoted id begins with a letter or _ and goes on with letters, digits, _ - and single dots; "
            "other text goes in the label",
        )
    return node_id


def _read_attribute(token: Token, owner: Owner) -> Attribute:
    match = _ATTRIBUTE.match(token)
    if match is None:  # pragma: no cover
        raise AssertionError(f"the grammar took {token!r} for an attribute")
    written_as = match["key"]
    text = match["text"]
    quoted = text is not None
    if quoted:
        value, at = unescape(text), match.start("text") - 1
    else:
        value, at = match["bare"], match.start("bare")
        if _NUMBER_LIKE.match(value) and not _NUMBER.match(value):
            raise ReadingError(
                (token.start_pos or 0) + at,
                f"'{value[:60]}' is neither a number nor a duration",
                f'durations end in ms, s, m, h or d; any other text goes in quotes: "{value[:60]}"',
            )
    position = _position(token)
    breaks = token.count("\n", 0, at)
    column = at - token.rfind("\n", 0, at) if breaks else position.column + at
    key = ALIASES[owner].get(written_as, written_as)
    return Attribute(key, value, position, Position(position.line + breaks, column), quoted, written_as)


def _label_class(subgraph: Tree[Token]) -> str:
    """The class that a subgraph's label gives (Spec 2.10); empty without a label."""
    label = ""
    for statement in subgraph.children:
        if not _is_tree(statement):
            continue
        tokens = _only_tokens(statement.children)
        if statement.data == "assignment" or (statement.data == "defaults" and tokens[0].type == "GRAPH"):
            attributes = [_read_attribute(token, Owner.GRAPH) for token in tokens if token.type == "ATTRIBUTE"]
            label = next((a.value for a in reversed(attributes) if a.key == "label"), label)
    return re.sub(r"[^a-z0-9-]", "", re.sub(r"\s", "-", label.lower())).strip("-")


def _finished(node_id: str, draft: _NodeDraft) -> Node:
    attributes = {**draft.inherited, **draft.explicit}
    written = attributes.get("class")
    classes = draft.classes
    if written is not None:
        classes += tuple(name.strip() for name in written.value.split(",") if name.strip())
    return Node(node_id, draft.position, attributes, tuple(dict.fromkeys(classes)), draft.declared)
