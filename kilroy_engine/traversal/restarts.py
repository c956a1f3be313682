"""``loop_restart`` edges: the run begins again at the edge's target, with the context of its beginning (Kilroy)."""

from __future__ import annotations

from dataclasses import replace

from kilroy_engine.events.base import Event
from kilroy_engine.events.run import LoopRestartBlocked, LoopRestartCircuitBreaker, LoopRestartSignature
from kilroy_engine.graph.model import Edge, Graph
from kilroy_engine.traversal.breakers import signature_limit
from kilroy_engine.traversal.failure import FailureClass, classify, signature
from kilroy_engine.traversal.outcome import FinalStatus, Json, Outcome
from kilroy_engine.traversal.state import Finish, Restart, RunState

DEFAULT_MAX_RESTARTS = 50
COUNT_KEY = "loop_restart.iteration_count"
FROM_KEY = "loop_restart.from_node"


def restart_over(graph: Graph, state: RunState, edge: Edge, outcome: Outcome, decisions: tuple[Event, ...]) -> Restart | Finish:
    """What follows when the walk takes ``edge``: a restart, or the end of the run where a limit or the failure's class forbids
    one.

    ``outcome`` is the outcome that the edge's condition saw. A failure restarts the run only if its class is
    ``transient_infra``.
    """
    number, signatures = state.restart_count + 1, dict(state.restart_signatures)
    if outcome.failed:
        if classify(outcome) != FailureClass.TRANSIENT_INFRA:
            return _blocked(edge, outcome, decisions)
        seen = _signed(graph, state, edge, outcome)
        signatures[seen.signature] = seen.signature_count
        decisions = (*decisions, seen)
        if seen.signature_count >= seen.signature_limit:
            return _cycle(seen, decisions)
    limit = max_restarts(graph)
    if number > limit:
        reason = f"loop_restart limit exceeded ({number} restarts, max {limit}); to allow more, raise max_restarts on the graph"
        return Finish(FinalStatus.FAIL, reason, edge.source, decisions)
    carried = RunState(
        run_id=state.run_id,
        context={**_persisted(graph, state), COUNT_KEY: number, FROM_KEY: edge.source},
        failure_signatures=state.failure_signatures,
        restart_count=number,
        restart_signatures=signatures,
        jump_to=edge.target,
    )
    return Restart(edge.target, carried, decisions)


def restarted(begins: RunState, restart: Restart) -> RunState:
    """The state in which the walk begins again. ``begins`` is the run's first state: graph, goal, inputs and base commit."""
    return replace(restart.carried, context={**begins.context, **restart.carried.context})


def max_restarts(graph: Graph) -> int:
    """How often the run may begin again: ``max_restarts``, 50 where it is absent or negative."""
    limit = graph.integer("max_restarts", DEFAULT_MAX_RESTARTS)
    return limit if limit >= 0 else DEFAULT_MAX_RESTARTS


def persist_keys(graph: Graph) -> tuple[str, ...]:
    """The context keys that a restart keeps: ``loop_restart_persist_keys`` of the graph, separated by commas."""
    keys = (key.strip() for key in graph.text("loop_restart_persist_keys").split(","))
    return tuple(key for key in keys if key)


def _persisted(graph: Graph, state: RunState) -> dict[str, Json]:
    return {key: state.context[key] for key in persist_keys(graph) if key in state.context}


def _blocked(edge: Edge, outcome: Outcome, decisions: tuple[Event, ...]) -> Finish:
    kind, told = classify(outcome), one_line(outcome)
    reason = (
        f"loop_restart blocked: failure_class={kind} (requires {FailureClass.TRANSIENT_INFRA}), node={edge.source}, "
        f"failure_reason={told}; lead other failures elsewhere than over {edge}"
    )
    blocked = LoopRestartBlocked(
        target_node=edge.target, node_id=edge.source, failure_class=kind, failure_reason=outcome.failure_reason
    )
    return Finish(FinalStatus.FAIL, reason, edge.source, (*decisions, blocked))


def _signed(graph: Graph, state: RunState, edge: Edge, outcome: Outcome) -> LoopRestartSignature:
    key = signature(edge.source, outcome)
    return LoopRestartSignature(
        target_node=edge.target,
        node_id=edge.source,
        signature=key,
        signature_count=state.restart_signatures.get(key, 0) + 1,
        signature_limit=signature_limit(graph),
        failure_reason=outcome.failure_reason,
        failure_class=classify(outcome),
        restart_count=state.restart_count,
    )


def _cycle(seen: LoopRestartSignature, decisions: tuple[Event, ...]) -> Finish:
    reason = (
        f"loop_restart circuit breaker: failure signature repeated {seen.signature_count} times "
        f"(limit {seen.signature_limit}): {seen.signature}; to allow more, raise loop_restart_signature_limit on the graph"
    )
    cycle = LoopRestartCircuitBreaker(
        target_node=seen.target_node,
        node_id=seen.node_id,
        signature=seen.signature,
        signature_count=seen.signature_count,
        signature_limit=seen.signature_limit,
    )
    return Finish(FinalStatus.FAIL, reason, seen.node_id, (*decisions, cycle))


def one_line(outcome: Outcome) -> str:
    """The outcome's failure reason as one line."""
    lines = (line.strip() for line in outcome.failure_reason.splitlines())
    return "; ".join(line for line in lines if line) or "no reason given"
