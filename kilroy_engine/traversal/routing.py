"""Selects the edge that follows a stage (Spec 3.3, 3.7)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from kilroy_engine.events.base import Event
from kilroy_engine.events.routing import EdgeConditionEvaluated, EdgeSelected, NoMatchingFailEdgeFallback
from kilroy_engine.graph.conditions import evaluate, parse_condition
from kilroy_engine.graph.model import Edge, Graph, Node
from kilroy_engine.graph.node_types import FAN_IN
from kilroy_engine.traversal.goals import stage_retry_target
from kilroy_engine.traversal.outcome import Json, Outcome

JUMP = -1
"""``Edge.index`` of an edge that the engine makes for a jump to a retry target. The pipeline has no such edge."""


_ACCELERATOR = re.compile(r"(?:\[.\]\s*|.\)\s+|.\s+-\s+)(?=\S)")


def select_edge(
    graph: Graph, node: Node, outcome: Outcome, context: Mapping[str, Json]
) -> tuple[Edge | None, tuple[Event, ...]]:
    """The edge to follow after ``node``, or None where no edge matches. Also the events about the decision.

    The order is: edges whose condition holds; for a failed outcome the node's retry targets (an edge with index ``JUMP``); the
    preferred label; the suggested ids; the best edge without a condition. A failed fan-in follows no edge without a condition.
    A failed stage follows no edge without a condition to an exit. Only one edge is ever chosen: several edges are no fan-out.
    """
    edges = graph.outgoing(node.id)
    matched, evaluated = _evaluate_conditions(edges, outcome, context)
    if matched:
        edge = min(matched, key=_rank)
        hop_source = "conditional" if outcome.failed and node.type == FAN_IN else "edge_selection"
        selected = _selected(edge, "condition_match", candidates=len(edges), matched=len(matched), hop_source=hop_source)
        return edge, (*evaluated, selected)

    if outcome.failed and (target := stage_retry_target(graph, node)):
        edge = Edge(node.id, target, node.position, index=JUMP)
        return edge, (*evaluated, _jump_decision(node, edge, outcome))

    choice = _plain_choice(_open_edges(graph, node, outcome), outcome)
    if choice is None:
        return None, evaluated
    edge, method = choice
    return edge, (*evaluated, _selected(edge, method, candidates=len(edges)))


def normalize_label(label: str) -> str:
    """The label in lower case without an accelerator prefix: ``[Y] Yes``, ``Y) Yes`` and ``Y - Yes`` all become ``yes``."""
    text = label.strip().lower()
    accelerator = _ACCELERATOR.match(text)
    return text[accelerator.end() :] if accelerator else text


def _evaluate_conditions(
    edges: Sequence[Edge], outcome: Outcome, context: Mapping[str, Json]
) -> tuple[list[Edge], tuple[EdgeConditionEvaluated, ...]]:
    matched: list[Edge] = []
    evaluated: list[EdgeConditionEvaluated] = []
    for edge in edges:
        if not edge.condition:
            continue
        holds = evaluate(
            parse_condition(edge.condition),
            outcome=outcome.status,
            preferred_label=outcome.preferred_label,
            context=context,
        )
        evaluated.append(
            EdgeConditionEvaluated(node_id=edge.source, edge_to=edge.target, condition=edge.condition, matched=holds)
        )
        if holds:
            matched.append(edge)
    return matched, tuple(evaluated)


def _open_edges(graph: Graph, node: Node, outcome: Outcome) -> list[Edge]:
    """The edges without a condition that may follow ``outcome``."""
    plain = [edge for edge in graph.outgoing(node.id) if not edge.condition]
    if not outcome.failed:
        return plain
    return [] if node.type == FAN_IN else [edge for edge in plain if not graph.nodes[edge.target].is_exit]


def _plain_choice(plain: Sequence[Edge], outcome: Outcome) -> tuple[Edge, str] | None:
    wanted = normalize_label(outcome.preferred_label)
    if wanted:
        for edge in plain:
            if normalize_label(edge.label) == wanted:
                return edge, "preferred_label"
    for node_id in outcome.suggested_next_ids:
        for edge in plain:
            if edge.target == node_id:
                return edge, "suggested_next_ids"
    ranked = sorted(plain, key=_rank)
    if len(ranked) < 2:
        return (ranked[0], "only_edge") if ranked else None
    return ranked[0], "lexical_tiebreak" if ranked[0].weight == ranked[1].weight else "weight"


def _rank(edge: Edge) -> tuple[int, str, int]:
    """Sort key: the heaviest edge first, then the target by code point, then the place in the file."""
    return -edge.weight, edge.target, edge.index


def _jump_decision(node: Node, jump: Edge, outcome: Outcome) -> Event:
    """The event for a jump. Kilroy reports a fan-in's jump as an edge without method or candidates, any other jump as a
    fallback.
    """
    if node.type == FAN_IN:
        return _selected(jump, "", candidates=0, hop_source="retry_target")
    return NoMatchingFailEdgeFallback(node_id=node.id, retry_target=jump.target, failure_reason=outcome.failure_reason)


def _selected(
    edge: Edge, method: str, *, candidates: int, matched: int = 0, hop_source: str = "edge_selection"
) -> EdgeSelected:
    return EdgeSelected(
        from_node=edge.source,
        to_node=edge.target,
        label=edge.label,
        condition=edge.condition,
        hop_source=hop_source,
        selection_method=method,
        candidates_evaluated=candidates,
        conditions_matched=matched,
    )
