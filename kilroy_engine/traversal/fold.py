"""Makes a run's states: the first state, the state on arrival at a node, and the state after an outcome."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from kilroy_engine.graph.model import Graph, Node
from kilroy_engine.graph.node_types import CONDITIONAL, START, runs_once
from kilroy_engine.traversal.breakers import count_failure, without_node
from kilroy_engine.traversal.failure import classify
from kilroy_engine.traversal.fidelity import remember
from kilroy_engine.traversal.loops import count_round
from kilroy_engine.traversal.outcome import Json, Outcome
from kilroy_engine.traversal.state import RunState, Visit

CARRIED_KEYS = frozenset({"outcome", "preferred_label", "failure_reason", "failure_class"})
"""Context keys about the last stage. A conditional node does not change them."""

DOSSIER_KEYS = "context.failure_dossier."
"""Prefix of the context keys that say where the latest failure's dossier is. A later success empties them (Kilroy)."""


def initial_state(graph: Graph, *, run_id: str, inputs: Mapping[str, str], base_sha: str = "") -> RunState:
    """The state before the first node. Its context holds graph attributes, goal, inputs and base commit (Kilroy's keys)."""
    context: dict[str, Json] = {f"graph.{key}": attribute.value for key, attribute in graph.attributes.items()}
    context["graph.goal"] = graph.goal
    context["base_sha"] = base_sha
    return with_inputs(RunState(run_id=run_id, context=context), inputs)


def with_inputs(state: RunState, inputs: Mapping[str, str]) -> RunState:
    """``state`` with ``inputs`` added to the inputs in its context."""
    if not inputs:
        return state
    known = state.context.get("inputs")
    single: dict[str, Json] = {f"input.{key}": value for key, value in inputs.items()}
    together: dict[str, Json] = {**(known if isinstance(known, dict) else {}), **inputs}
    return replace(state, context={**state.context, **single, "inputs": together})


def enter(state: RunState, visit: Visit) -> RunState:
    """The state in which ``visit`` works: the visit is counted, and the context says which node the run is at and came from."""
    node_id = visit.node_id
    context = {
        **state.context,
        # A branch's walk has not completed the fan-out: the branch's first stage finds the fan-out's id in the context.
        "previous_node": state.last_node or state.context.get("previous_node", ""),
        "previous_outcome": str(state.routing_outcome.status) if state.routing_outcome else "",
        "current_node": node_id,
        "completed_nodes": list[Json](state.completed),
        f"internal.retry_count.{node_id}": state.retries.get(node_id, 0),
    }
    return replace(state, context=context, visits={**state.visits, node_id: visit.number}, jump_to="", jump_edge=None)


def apply_outcome(graph: Graph, state: RunState, visit: Visit, outcome: Outcome) -> RunState:
    """The state after ``visit`` came to ``outcome``.

    A conditional node that succeeds passes on the outcome that led to the node: ``routing_outcome`` and the context keys of
    ``CARRIED_KEYS`` stay. Where a loop ends at the node, the iteration is counted.
    """
    node = graph.nodes[visit.node_id]
    carries = node.type == CONDITIONAL and outcome.succeeded and state.routing_outcome is not None
    routing = _carried(state.routing_outcome) if carries else outcome
    mended = routing is not None and routing.succeeded
    after = replace(
        remember(graph, state, visit, outcome),
        context=_context_after(state, outcome, carries=carries),
        completed=(*state.completed, node.id),
        outcomes={**state.outcomes, node.id: outcome},
        retries=_retries_after(state, node, outcome),
        failure_signatures=count_failure(state, node.id, outcome),
        restart_signatures=without_node(state.restart_signatures, node.id) if mended else state.restart_signatures,
        routing_outcome=routing,
    )
    return count_round(graph, after, node)


def _context_after(state: RunState, outcome: Outcome, *, carries: bool) -> dict[str, Json]:
    if carries:
        return {**state.context, **{k: v for k, v in outcome.context_updates.items() if k not in CARRIED_KEYS}}
    told = {} if outcome.failed else {key: "" for key in state.context if key.startswith(DOSSIER_KEYS)}
    return {
        **state.context,
        **told,
        **outcome.context_updates,
        "outcome": str(outcome.status),
        "preferred_label": outcome.preferred_label,
        "failure_reason": outcome.failure_reason,
        "failure_class": classify(outcome),
    }


def _carried(outcome: Outcome | None) -> Outcome | None:
    """The outcome that a conditional node passes on, without the suggested ids: they name targets of the earlier stage's
    edges.
    """
    return outcome.with_updates(suggested_next_ids=()) if outcome else None


def _retries_after(state: RunState, node: Node, outcome: Outcome) -> Mapping[str, int]:
    """The retry counters in Kilroy's way: 0 after a success, the number of retries after a failure, no entry before either.

    Of the nodes that run once, only the start node has a counter.
    """
    counted = node.type == START or not runs_once(node.type)
    return {**state.retries, node.id: outcome.retries} if counted and (outcome.succeeded or outcome.retries) else state.retries
