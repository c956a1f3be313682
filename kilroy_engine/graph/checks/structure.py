"""Rules about nodes and edges in general: start and exit, ids, reachability, cycles, dead ends."""

from __future__ import annotations

import re
from collections.abc import Iterator
from difflib import get_close_matches

from kilroy_engine.graph.analysis import cycles, distances, graph_retry_targets, successors
from kilroy_engine.graph.checks.subject import Subject, error, warning
from kilroy_engine.graph.diagnostics import Diagnostic
from kilroy_engine.graph.model import Edge, Node
from kilroy_engine.graph.node_types import AGENT, EXIT, HUMAN, START

_LAYOUT_NAMES = frozenset({"worktree", "outputs", "artifacts", "parallel", "input_snapshot", "modeldb"})
_LAYOUT_PATTERN = re.compile(r"restart-.*|run\..*|graph\.dot|.*\.(?:json|ndjson|tgz)", re.IGNORECASE)
_KEYWORDS = frozenset({"graph", "digraph", "subgraph", "node", "edge", "strict", "if"})
_MAX_ID_LENGTH = 120
_MAX_GUESSES = 20


def start_node(subject: Subject) -> Iterator[Diagnostic]:
    """Spec 7.2: a pipeline has exactly one start node."""
    starts = list(subject.nodes_of(START))
    if not starts:
        yield error("start_node").on_graph("the pipeline has no start node", fix="add one: start [shape=Mdiamond]")
    for node in starts[1:]:
        yield error("start_node").on_node(
            node,
            f"'{node.id}' is a second start node; the first is '{starts[0].id}' at line {starts[0].position.line}",
            fix="keep one start node; give the other another shape and another name than start",
        )


def terminal_node(subject: Subject) -> Iterator[Diagnostic]:
    """Spec 7.2: a pipeline has an exit node. Several exit nodes give a warning, as in Kilroy."""
    exits = list(subject.nodes_of(EXIT))
    if not exits:
        yield error("terminal_node").on_graph("the pipeline has no exit node", fix="add one: exit [shape=Msquare]")
    for node in exits[1:]:
        yield warning("terminal_node").on_node(
            node,
            f"'{node.id}' is one more exit node, next to '{exits[0].id}'; reaching any of them ends the run with success",
            fix="lead every way to one exit node",
        )


def start_no_incoming(subject: Subject) -> Iterator[Diagnostic]:
    """Spec 7.2: no edge leads to the start."""
    for node in subject.nodes_of(START):
        for edge in subject.graph.incoming(node.id):
            yield error("start_no_incoming").on_edge(
                edge, f"an edge leads into the start node '{node.id}'", fix="lead it to the node after the start"
            )


def exit_no_outgoing(subject: Subject) -> Iterator[Diagnostic]:
    """Spec 7.2: no edge leaves an exit."""
    for node in subject.nodes_of(EXIT):
        for edge in subject.graph.outgoing(node.id):
            yield error("exit_no_outgoing").on_edge(
                edge, f"an edge leaves the exit node '{node.id}', where the run is over", fix="remove it"
            )


def reachability(subject: Subject) -> Iterator[Diagnostic]:
    """Spec 7.2, but as a warning: every node can be reached from the start, over edges or retry targets."""
    starts = [node.id for node in subject.nodes_of(START)]
    if not starts:
        return
    roots = [*starts, *graph_retry_targets(subject.graph)]
    reached = distances(successors(subject.graph, jumps=True), roots)
    for node in subject.graph.nodes.values():
        if node.id not in reached:
            yield warning("reachability").on_node(
                node, f"node '{node.id}' is unreachable from the start", fix="lead an edge to it, or remove it"
            )


def edge_target_exists(subject: Subject) -> Iterator[Diagnostic]:
    """Spec 7.2: edges name declared nodes. An unknown id near a declared id is an error; any other becomes a plain box."""
    declared = [node.id for node in subject.graph.nodes.values() if node.declared]
    implicit = [node for node in subject.graph.nodes.values() if not node.declared]
    for at, node in enumerate(implicit):
        near = _near(node.id, declared) if at < _MAX_GUESSES else None
        if near is not None:
            yield error("edge_target_exists").on_node(
                node,
                f"no node '{node.id}' is declared",
                fix=f"did you mean '{near}'? If not, declare it: {node.id} [label=\"…\"]",
            )
        else:
            yield warning("edge_target_exists").on_node(
                node,
                f"node '{node.id}' is named by an edge only; it is taken as a plain box",
                fix=f'declare it: {node.id} [prompt="…"]',
            )


def _near(node_id: str, declared: list[str]) -> str | None:
    """The declared id that ``node_id`` probably means; None where no id is near.

    ``step2`` and ``plan_b`` do not mean ``step1`` and ``plan``.
    """

    def is_sibling(other: str) -> bool:
        short, long = sorted((node_id, other), key=len)
        tail = long[len(short) :]
        return re.sub(r"\d+", "#", short) == re.sub(r"\d+", "#", long) or (
            long.startswith(short) and bool(re.match(r"[\d_.-]", tail))
        )

    folded = {other.casefold(): other for other in declared if not is_sibling(other)}
    swapped = [other for other in folded if sorted(other) == sorted(node_id.casefold())]
    near = swapped or get_close_matches(node_id.casefold(), folded, n=1, cutoff=0.8)
    return folded[near[0]] if near else None


def reserved_node_id(subject: Subject) -> Iterator[Diagnostic]:
    """A node id is the name of a folder in the run directory and a part of a git branch name.

    It must not be a name that the run directory uses itself, and must not differ from another id in case only.
    """
    report = error("reserved_node_id")
    seen: dict[str, Node] = {}
    for node in subject.graph.nodes.values():
        folded = node.id.casefold()
        if folded in _LAYOUT_NAMES or _LAYOUT_PATTERN.fullmatch(node.id):
            yield report.on_node(
                node,
                f"the node id '{node.id}' is a name that the run directory uses itself",
                fix=f"rename it, such as {node.id}_stage",
            )
        elif node.id.endswith(".lock"):
            yield report.on_node(
                node, f"the node id '{node.id}' cannot be part of a git branch name", fix="do not end it in .lock"
            )
        if len(node.id) > _MAX_ID_LENGTH:
            yield report.on_node(
                node,
                f"the node id is {len(node.id)} characters long; it becomes a folder name and may have {_MAX_ID_LENGTH}",
                fix="shorten it; the label may be as long as you like",
            )
        first = seen.setdefault(folded, node)
        if first is not node:
            yield report.on_node(
                node,
                f"the node ids '{first.id}' and '{node.id}' differ in case only, and share a folder on some file systems",
                fix="rename one of them",
            )


def reserved_keyword_node_id(subject: Subject) -> Iterator[Diagnostic]:
    """Kilroy: a node id is no DOT keyword in any case, because other tools would read it as the keyword."""
    for node in subject.graph.nodes.values():
        if node.id.lower() in _KEYWORDS:
            yield warning("reserved_keyword_node_id").on_node(
                node, f"the node id '{node.id}' is a keyword to other tools that read DOT", fix="rename it"
            )


def duplicate_edge(subject: Subject) -> Iterator[Diagnostic]:
    """The same edge is written twice. The walk takes only one of the two."""
    seen: dict[tuple[str, str, str, str], Edge] = {}
    for edge in subject.graph.edges:
        first = seen.setdefault((edge.source, edge.target, edge.condition, edge.label), edge)
        if first is not edge:
            yield warning("duplicate_edge").on_edge(
                edge, f"the edge {edge} is written again; the first is at line {first.position.line}", fix="remove one of them"
            )


def self_loop(subject: Subject) -> Iterator[Diagnostic]:
    """An edge from a node to itself."""
    for edge in subject.graph.edges:
        if edge.source == edge.target:
            yield warning("self_loop").on_edge(
                edge,
                f"node '{edge.source}' leads back to itself",
                fix="to try a stage again, set max_retries; to wait for something, mind that max_node_visits ends the run",
            )


def dead_end(subject: Subject) -> Iterator[Diagnostic]:
    """No edge leaves a node that is no exit. The run ends there, as success if the node succeeds (Spec 3.2)."""
    for node in subject.graph.nodes.values():
        if subject.types[node.id] != EXIT and not subject.graph.outgoing(node.id):
            yield warning("dead_end").on_node(
                node, f"no edge leaves node '{node.id}': the run ends there, without an exit", fix="lead it on, or to the exit"
            )


def cycle_no_conditional_exit(subject: Subject) -> Iterator[Diagnostic]:
    """A cycle without a condition or choice to leave it runs until a limit stops the run."""
    graph = subject.graph
    for cycle in cycles(graph):
        inside = [node for node in graph.nodes.values() if node.id in cycle]
        edges = [edge for node in inside for edge in graph.outgoing(node.id)]
        leaves = any(edge.target not in cycle for edge in edges)
        if leaves and (any(edge.condition for edge in edges) or any(_chooses(subject, node) for node in inside)):
            continue
        names = ", ".join(node.id for node in inside[:5]) + (", …" if len(inside) > 5 else "")
        problem = "no edge leaves it" if not leaves else "no condition and no choice decides when to leave it"
        yield warning("cycle_no_conditional_exit").on_node(
            inside[0],
            f"the loop of {names} never ends: {problem}",
            fix='add a way out, such as an edge with condition="outcome=success"',
        )


def _chooses(subject: Subject, node: Node) -> bool:
    """Whether the stage may choose among several edges: by a person at a human gate, or by an agent's preferred label."""
    return subject.types[node.id] in (HUMAN, AGENT) and len(subject.graph.outgoing(node.id)) > 1


RULES = (
    start_node,
    terminal_node,
    edge_target_exists,
    start_no_incoming,
    exit_no_outgoing,
    reachability,
    reserved_node_id,
    reserved_keyword_node_id,
    duplicate_edge,
    self_loop,
    dead_end,
    cycle_no_conditional_exit,
)
