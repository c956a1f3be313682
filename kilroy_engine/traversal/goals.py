"""Goal gates: which are open, and where a failed stage or an open gate sends the walk (Spec 3.4, 3.7)."""

from __future__ import annotations

from collections.abc import Iterable

from kilroy_engine.graph.model import Graph, Node
from kilroy_engine.traversal.state import RunState


def unsatisfied_gates(graph: Graph, state: RunState) -> tuple[str, ...]:
    """Visited ``goal_gate`` nodes whose last outcome is neither success nor partial_success, in the order of completion.

    A gate that was never visited does not count (Spec 3.4).
    """
    visited = dict.fromkeys(state.completed)
    return tuple(
        node_id
        for node_id in visited
        if node_id in graph.nodes and graph.nodes[node_id].goal_gate and not state.outcomes[node_id].satisfies_gate
    )


def stage_retry_target(graph: Graph, node: Node) -> str:
    """Where the failed stage ``node`` goes when no condition matches: its own targets only. Empty where there is none."""
    return _first_usable(graph, node.retry_targets)


def gate_retry_target(graph: Graph, gate: Node) -> str:
    """Where the walk goes when ``gate`` is unsatisfied at an exit: its own targets, then the graph's. Empty for none."""
    of_graph = (graph.text("retry_target").strip(), graph.text("fallback_retry_target").strip())
    return _first_usable(graph, (*gate.retry_targets, *of_graph))


def _first_usable(graph: Graph, targets: Iterable[str]) -> str:
    """The first target that exists and is no exit: jumping to an exit would only find the same gate unsatisfied."""
    return next((target for target in targets if target in graph.nodes and not graph.nodes[target].is_exit), "")
