"""How a run's state comes about: the first one, on arrival at a node, after its outcome."""

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
"""Context keys that tell about the last stage. A conditional node leaves them as they are."""

DOSSIER_KEYS = "context.failure_dossier."
"""Beginning of the context keys that tell where the latest failure is described. A later success empties them (Kilroy)."""


def initial_state(graph: Graph, *, run_id: str, inputs: Mapping[str, str], base_sha: str = "") -> RunState:
    """The state before the first node: graph attributes, goal, inputs and base commit are in the context (Kilroy's keys)."""
    context: dict[str, Json] = {f"graph.{key}": attribute.value for key, attribute in graph.attributes.items()}
    context["graph.goal"] = graph.goal
    context["base_sha"] = base_sha
    return with_inputs(RunState(run_id=run_id, context=context), inputs)


def with_inputs(state: RunState, inputs: Mapping[str, str]) -> RunState:
    """``state`` with these inputs in its context, beside those that it has."""
    if not inputs:
        return state
    known = state.context.get("inputs")
    single: dict[str, Json] = {f"input.{key}": value for key, value in inputs.items()}
    together: dict[str, Json] = {**(known if isinstance(known, dict) else {}), **inputs}
    return replace(state, context={**state.context, **single, "inputs": together})


def enter(state: RunState, visit: Visit) -> RunState:
    """The state in which ``visit`` works: the arrival is counted, the context says where the run is and comes from."""
    node_id = visit.node_id
    context = {
        **state.context,
        # The first stage of a branch comes from the fan-out, which its own walk does not know.
        "previous_node": state.last_node or state.context.get("previous_node", ""),
        "previous_outcome": str(state.routing_outcome.status) if state.routing_outcome else "",
        "current_node": node_id,
        "completed_nodes": list[Json](state.completed),
        f"internal.retry_count.{node_id}": state.retries.get(node_id, 0),
    }
    return replace(state, context=context, visits={**state.visits, node_id: visit.number}, jump_to="", jump_edge=None)


def apply_outcome(graph: Graph, state: RunState, visit: Visit, outcome: Outcome) -> RunState:
    """The state after ``visit`` came to ``outcome``.

    A conditional node that did its duty carries on the outcome that led to it: what edges call ``outcome`` and the context
    keys of ``CARRIED_KEYS`` stay as they are. Where a loop ends at the node, one more of its iterations is over.
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
    """What a conditional node hands on: all but the suggested ids, which were meant for the edges of the stage itself."""
    return outcome.with_updates(suggested_next_ids=()) if outcome else None


def _retries_after(state: RunState, node: Node, outcome: Outcome) -> Mapping[str, int]:
    """Retry counters in Kilroy's way: 0 after a success, the number spent after a failure, no entry before either.

    Of the nodes that run once, only the start has one.
    """
    counted = node.type == START or not runs_once(node.type)
    return {**state.retries, node.id: outcome.retries} if counted and (outcome.succeeded or outcome.retries) else state.retries
