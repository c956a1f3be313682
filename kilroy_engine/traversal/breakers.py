"""Limits that end a walk which repeats itself: equal failures, and too many visits of a node."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from kilroy_engine.events.stage import DeterministicFailureCycleBreaker, DeterministicFailureCycleCheck, StuckCycleBreaker
from kilroy_engine.graph.attributes import read_int
from kilroy_engine.graph.model import Graph
from kilroy_engine.traversal.failure import CYCLE_CLASSES, classify, signature
from kilroy_engine.traversal.outcome import Outcome
from kilroy_engine.traversal.state import RunState

DEFAULT_SIGNATURE_LIMIT = 3
DEFAULT_VISIT_LIMIT = 50


def count_failure(state: RunState, node_id: str, outcome: Outcome) -> dict[str, int]:
    """The failure counts after ``outcome``. A failure of ``CYCLE_CLASSES`` adds 1 to its signature. A success removes the
    node's counts.
    """
    if outcome.succeeded:
        return without_node(state.failure_signatures, node_id)
    counts = dict(state.failure_signatures)
    if classify(outcome) in CYCLE_CLASSES:
        key = signature(node_id, outcome)
        counts[key] = counts.get(key, 0) + 1
    return counts


def without_failures(state: RunState, node_id: str) -> RunState:
    """``state`` without the node's failure counts. Called by a resume that visits a failed node again."""
    return replace(
        state,
        failure_signatures=without_node(state.failure_signatures, node_id),
        restart_signatures=without_node(state.restart_signatures, node_id),
    )


def without_node(signatures: Mapping[str, int], node_id: str) -> dict[str, int]:
    """``signatures`` without those of the node."""
    return {seen: count for seen, count in signatures.items() if not seen.startswith(f"{node_id}|")}


def failure_cycle_check(graph: Graph, state: RunState, node_id: str, outcome: Outcome) -> DeterministicFailureCycleCheck | None:
    """How often the failure ``outcome`` was seen; ``state`` already includes the outcome. None for an outcome that is not
    counted.
    """
    failure_class = classify(outcome)
    if failure_class not in CYCLE_CLASSES:
        return None
    key = signature(node_id, outcome)
    return DeterministicFailureCycleCheck(
        node_id=node_id,
        signature=key,
        signature_count=state.failure_signatures.get(key, 0),
        signature_limit=signature_limit(graph),
        failure_class=failure_class,
        failure_reason=outcome.failure_reason,
    )


def signature_limit(graph: Graph) -> int:
    """How many equal failures end the run: ``loop_restart_signature_limit``, 3 where it is absent or below 1."""
    limit = graph.integer("loop_restart_signature_limit", DEFAULT_SIGNATURE_LIMIT)
    return limit if limit >= 1 else DEFAULT_SIGNATURE_LIMIT


def visit_limit(graph: Graph, node_id: str) -> int | None:
    """Which visit of the node ends the run: ``max_node_visits`` of the node, else of the graph. None where neither is set. A
    limit below 1 means no limit.
    """
    of_node = graph.nodes[node_id].max_node_visits
    return of_node if of_node is not None else read_int(graph.text("max_node_visits"), default=None)


def stuck_cycle(graph: Graph, node_id: str, visit_number: int, *, in_rounds: int = 0) -> StuckCycleBreaker | None:
    """The breaker's event where visit ``visit_number`` of the node is one too many, else None. A limit of 3 allows two visits
    (Kilroy).

    Without ``max_node_visits`` the limit is 50. Then ``in_rounds`` visits, those in finished iterations of loops with
    ``loop_count`` or ``loop_max``, do not count.
    """
    limit = visit_limit(graph, node_id)
    if limit is None:
        limit, visit_number = DEFAULT_VISIT_LIMIT, visit_number - in_rounds
    if 0 < limit <= visit_number:
        return StuckCycleBreaker(node_id=node_id, visit_count=visit_number, visit_limit=limit)
    return None


def failure_cycle_reason(cycle: DeterministicFailureCycleBreaker) -> str:
    """Why the run failed, in Kilroy's words, and how to allow more failures."""
    return (
        f'run aborted: deterministic failure cycle detected — signature "{cycle.signature}" repeated '
        f"{cycle.signature_count} times (limit {cycle.signature_limit}); likely a persistent provider or auth error; "
        f"to allow more, raise loop_restart_signature_limit on the graph"
    )


def stuck_cycle_reason(stuck: StuckCycleBreaker) -> str:
    """Why the run failed, in Kilroy's words, and how to allow more visits."""
    return (
        f'run aborted: node "{stuck.node_id}" visited {stuck.visit_count} times in this iteration '
        f"(limit {stuck.visit_limit}); pipeline is stuck in a cycle; "
        f"to allow more, raise max_node_visits on the node or on the graph"
    )
