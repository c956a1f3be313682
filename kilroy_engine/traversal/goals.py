"""Goal gates: which are unsatisfied, and where a failed stage or an unsatisfied gate sends the walk (Spec 3.4, 3.7)."""

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
    """Where the walk goes when the stage ``node`` failed and no edge condition holds: the node's own retry target. Empty for
    none.
    """
    return _first_usable(graph, node.retry_targets)


def gate_retry_target(graph: Graph, gate: Node) -> str:
    """Where the walk goes when ``gate`` is unsatisfied at an exit: the gate's retry target, else the graph's. Empty for
    none.
    """
    of_graph = (graph.text("retry_target").strip(), graph.text("fallback_retry_target").strip())
    return _first_usable(graph, (*gate.retry_targets, *of_graph))


def _first_usable(graph: Graph, targets: Iterable[str]) -> str:
    """The first target that exists and is no exit: at an exit the same gate would be unsatisfied again."""
    return next((target for target in targets if target in graph.nodes and not graph.nodes[target].is_exit), "")
