"""Writes a graph as text: canonical DOT, for Graphviz and for reading it again, and Mermaid, for pages that draw it."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

from kilroy_engine.graph.model import Attribute, Edge, Graph, Node
from kilroy_engine.graph.node_types import NODE_TYPES

_BARE_ID = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_GRAPHVIZ_KEYWORDS = frozenset({"graph", "digraph", "subgraph", "node", "edge", "strict"})

STATUS_COLORS: Mapping[str, tuple[str, str]] = {
    "success": ("#d5f0dc", "#1a7f37"),
    "partial_success": ("#eef3c9", "#6b7a00"),
    "fail": ("#ffdcd7", "#c62f20"),
    "retry": ("#ffe9c7", "#9a6700"),
    "skipped": ("#eceff2", "#57606a"),
    "running": ("#d8e9ff", "#0a58ca"),
    "waiting": ("#efe3ff", "#7a3fc4"),
    "canceled": ("#e3e0dc", "#6e6256"),
}
"""Status -> fill color and line color of the node. Any other status word has the colors of ``waiting``."""

_PLAIN = ("[", "]")


def to_dot(graph: Graph, *, statuses: Mapping[str, str] | None = None, taken: Collection[tuple[str, str]] = ()) -> str:
    """Canonical DOT of a graph, which Graphviz can read: each node with all its attributes, all values quoted.

    Parsing the text gives the same graph, except for places, quoting and aliases. ``statuses`` maps node ids to status words;
    such a node gets a color, and its label ends with the word. ``taken`` holds (source id, target id) of the edges that a run
    took; these edges are blue and thick.
    """
    statuses = statuses or {}
    lines = [f"digraph {_id(graph.name)} {{" if graph.name else "digraph {"]
    if graph.attributes:
        lines.append(f"  graph {_list(graph.attributes)}")
    for node in graph.nodes.values():
        if node.declared or node.attributes or node.classes or node.id in statuses:
            lines += _dot_node(node, statuses.get(node.id, ""))
    pairs = frozenset(taken)
    for edge in graph.edges:
        drawn = {"color": "#0a58ca", "penwidth": "2.5"} if (edge.source, edge.target) in pairs else {}
        lines.append(f"  {_id(edge.source)} -> {_id(edge.target)}{_list(edge.attributes, drawn, before=' ')}")
    return "\n".join([*lines, "}", ""])


def to_mermaid(graph: Graph, *, statuses: Mapping[str, str] | None = None, taken: Collection[tuple[str, str]] = ()) -> str:
    """A Mermaid flowchart of a graph; ``statuses`` and ``taken`` as for :func:`to_dot`. Labels may hold any characters."""
    statuses = statuses or {}
    direction = graph.text("rankdir").upper()
    lines = [f"flowchart {direction if direction in ('LR', 'RL', 'BT') else 'TD'}"]
    # Numbered ids in place of the node ids: Mermaid misreads nodes called "end", "class" or "o".
    names = {node_id: f"n{at}" for at, node_id in enumerate(graph.nodes)}
    for node in graph.nodes.values():
        opened, closed = NODE_TYPES[node.type].mermaid if node.type in NODE_TYPES else _PLAIN
        lines.append(
            f'  {names[node.id]}{opened}"{_mermaid_text(_with_status(node.label, statuses.get(node.id, "")))}"{closed}'
        )
    pairs = frozenset(taken)
    thick: list[int] = []
    for at, edge in enumerate(graph.edges):
        is_taken = (edge.source, edge.target) in pairs
        if is_taken:
            thick.append(at)
        caption = _caption(edge)
        arrow = "==>" if is_taken else "-->"
        label = f'|"{_mermaid_text(caption)}"|' if caption else ""
        lines.append(f"  {names[edge.source]} {arrow}{label} {names[edge.target]}")
    lines += _mermaid_colors(graph, statuses, names, thick)
    return "\n".join([*lines, ""])


def _dot_node(node: Node, status: str) -> list[str]:
    drawn: dict[str, str] = {}
    if status:
        fill, line = STATUS_COLORS.get(status, STATUS_COLORS["waiting"])
        drawn = {"label": _with_status(node.label, status), "style": "filled", "fillcolor": fill, "color": line}
    statement = f"{_id(node.id)}{_list(node.attributes, drawn, before=' ')}"
    for name in _subgraph_classes(node):
        statement = f"subgraph {{ label={_quoted(name)}; {statement} }}"
    return [f"  {statement}"]


def _subgraph_classes(node: Node) -> tuple[str, ...]:
    """The node's classes that come from subgraphs, the innermost subgraph first. They precede the node's own classes."""
    own = {name.strip() for name in node.text("class").split(",")}
    last = max((at for at, name in enumerate(node.classes) if name not in own), default=-1)
    return node.classes[: last + 1]


def _list(attributes: Mapping[str, Attribute], drawn: Mapping[str, str] | None = None, *, before: str = "") -> str:
    values = {**{key: attribute.value for key, attribute in attributes.items()}, **(drawn or {})}
    written = ", ".join(f"{_key(key)}={_quoted(value)}" for key, value in values.items())
    return f"{before}[{written}]" if written else ""


def _key(key: str) -> str:
    return key if _BARE_ID.match(key) and key not in _GRAPHVIZ_KEYWORDS else f'"{key}"'


def _id(name: str) -> str:
    return name if _BARE_ID.match(name) and name.lower() not in _GRAPHVIZ_KEYWORDS else _quoted(name)


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'


def _with_status(label: str, status: str) -> str:
    return f"{label}\n({status})" if status else label


def _caption(edge: Edge) -> str:
    return edge.label or edge.condition


def _mermaid_text(text: str) -> str:
    """``text`` for a quoted Mermaid label: special characters of Mermaid and HTML become codes, line ends become ``<br/>``."""
    coded = re.sub(r'[#"&<>`\\|{}\[\]]', lambda match: f"#{ord(match[0])};", text)
    return (
        re.sub(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029]", "", coded.replace("\r\n", "\n"))
        .replace("\n", "<br/>")
        .replace("\t", " ")
    )


def _mermaid_colors(graph: Graph, statuses: Mapping[str, str], names: Mapping[str, str], thick: list[int]) -> list[str]:
    lines: list[str] = []
    for status in dict.fromkeys(statuses[node_id] for node_id in graph.nodes if statuses.get(node_id)):
        fill, line = STATUS_COLORS.get(status, STATUS_COLORS["waiting"])
        style = "status_" + re.sub(r"\W", "_", status, flags=re.ASCII)
        members = ",".join(names[node_id] for node_id in graph.nodes if statuses.get(node_id) == status)
        lines += [f"  classDef {style} fill:{fill},stroke:{line},color:#1b1f24", f"  class {members} {style}"]
    if thick:
        lines.append(f"  linkStyle {','.join(map(str, thick))} stroke:#0a58ca")
    return lines
