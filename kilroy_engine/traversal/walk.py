"""The walk through the pipeline: decides the next step, and repeats that until the walk is over (Spec 3.2)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

from kilroy_engine.errors import CheckpointMismatch, InvalidPipeline
from kilroy_engine.events.base import Event
from kilroy_engine.events.routing import GoalGateRetry, NoMatchingFailEdgeFallback
from kilroy_engine.events.stage import DeterministicFailureCycleBreaker
from kilroy_engine.graph.diagnostics import Diagnostic, Severity
from kilroy_engine.graph.model import Graph, Node
from kilroy_engine.graph.node_types import PARALLEL
from kilroy_engine.traversal.breakers import failure_cycle_check, failure_cycle_reason, stuck_cycle, stuck_cycle_reason
from kilroy_engine.traversal.fold import apply_outcome, enter
from kilroy_engine.traversal.goals import gate_retry_target, stage_retry_target, unsatisfied_gates
from kilroy_engine.traversal.loops import last_round
from kilroy_engine.traversal.outcome import FinalStatus, Outcome
from kilroy_engine.traversal.restarts import one_line, restart_over
from kilroy_engine.traversal.routing import JUMP, select_edge
from kilroy_engine.traversal.state import Finish, Restart, RunState, Step, Turn, Visit

JOIN_NODE_KEY = "parallel.join_node"


class Recorder(Protocol):
    """Is called in order as the walk goes on. The events about decisions are in the visit and in the finish."""

    def visit_started(self, visit: Visit, state: RunState, /) -> None:
        """The walk arrived at a node. ``state`` is the state in which the visit works."""
        ...

    def outcome_recorded(self, visit: Visit, outcome: Outcome, state: RunState, /) -> None:
        """The visit is over. ``state`` includes its outcome."""
        ...

    def restarting(self, restart: Restart, state: RunState, /) -> None:
        """The run begins again. ``state`` is the state before the restart."""
        ...

    def finished(self, finish: Finish, state: RunState, /) -> None:
        """The walk is over."""
        ...


def walk(
    graph: Graph,
    state: RunState,
    *,
    perform: Callable[[Visit, RunState], Outcome],
    recorder: Recorder,
    until: str = "",
) -> Finish | Restart:
    """Walks from ``state`` to the end or to a ``loop_restart`` edge. Calls ``perform`` for the outcome of each visit, and
    ``recorder`` before and after.

    ``until`` is the join of a branch: the branch's walk ends on arrival there, and does not visit the join.
    """
    while True:
        step = next_step(graph, state)
        if until:
            step = _in_branch(step, until)
        match step:
            case Finish():
                recorder.finished(step, state)
                return step
            case Restart():
                recorder.restarting(step, state)
                return step
            case Visit():
                state = enter(state, step)
                recorder.visit_started(step, state)
                outcome = perform(step, state)
                state = apply_outcome(graph, state, step, outcome)
                recorder.outcome_recorded(step, outcome, state)


def _in_branch(step: Step, until: str) -> Step:
    """The step in a branch's walk, which ends at the join and cannot restart the run."""
    match step:
        case Visit(node_id=node_id) if node_id == until:
            return Finish(FinalStatus.SUCCESS, node_id=until, decisions=step.decisions)
        case Restart():
            reason = f"loop_restart is not supported in a branch (to {step.target}); lead the edge out of the join instead"
            return Finish(FinalStatus.FAIL, reason, decisions=step.decisions)
        case _:
            return step


def next_step(graph: Graph, state: RunState) -> Step:
    """What follows ``state``: a visit, the end or a restart. Depends on ``graph`` and ``state`` only.

    Raises:
        InvalidPipeline: The graph has no start node.
        CheckpointMismatch: The state names a node that the graph does not have.
    """
    if state.jump_to:
        # No visit limit applies here: the walk does not decide where it goes on.
        node_id = _known(graph, state.jump_to).id
        return Visit(node_id, state.visits.get(node_id, 0) + 1, state.jump_edge)
    if not state.completed:
        return _arrive(graph, state, _start(graph).id)
    node = _known(graph, state.last_node)
    if node.is_exit:
        return _at_exit(node, state.outcomes[node.id])
    if cycle := _failure_cycle(graph, state, node):
        return Finish(FinalStatus.FAIL, failure_cycle_reason(cycle), node.id, (cycle,))
    done = last_round(graph, state)
    told = (done.decision,) if done and done.decision else ()
    if done and done.turn is Turn.EXCEEDED:
        return Finish(FinalStatus.FAIL, done.exceeded_reason, node.id)
    if done and done.turn is Turn.AGAIN:
        return _arrive(graph, state, done.loop.begin, told)
    step = _leave(graph, state, node)
    return replace(step, decisions=(*told, *step.decisions)) if told else step


def _leave(graph: Graph, state: RunState, node: Node) -> Step:
    """The step from the completed ``node`` over one of its edges."""
    outcome = state.routing_outcome or state.outcomes[node.id]
    if node.type == PARALLEL:
        return _after_fan_out(graph, state, node, outcome)
    edge, decisions = select_edge(graph, node, outcome, state.context)
    if edge is None:
        return _no_edge(graph, state, node, outcome, decisions)
    if edge.loop_restart:
        return restart_over(graph, state, edge, outcome, decisions)
    return _arrive(graph, state, edge.target, decisions, edge=None if edge.index == JUMP else edge.index)


def _at_exit(node: Node, outcome: Outcome) -> Finish:
    """The end of the walk. An exit fails only where its commit was refused: the run's branch does not hold the work then."""
    if outcome.failed:
        return Finish(FinalStatus.FAIL, f"exit stage failed: {one_line(outcome)} (at node {node.id})", node.id)
    return Finish(FinalStatus.SUCCESS, node_id=node.id)


def _arrive(graph: Graph, state: RunState, node_id: str, decisions: tuple[Event, ...] = (), edge: int | None = None) -> Step:
    """A visit of the node, unless the node is an exit with an unsatisfied gate, or the visit is one too many."""
    if graph.nodes[node_id].is_exit and (gates := unsatisfied_gates(graph, state)):
        return _back_from_exit(graph, state, gates[0], decisions)
    number = state.visits.get(node_id, 0) + 1
    if stuck := stuck_cycle(graph, node_id, number, in_rounds=state.visits_in_rounds.get(node_id, 0)):
        return Finish(FinalStatus.FAIL, stuck_cycle_reason(stuck), node_id, (*decisions, stuck))
    return Visit(node_id, number, edge, decisions)


def _back_from_exit(graph: Graph, state: RunState, gate: str, decisions: tuple[Event, ...]) -> Step:
    target = gate_retry_target(graph, graph.nodes[gate])
    if not target:
        reason = f"goal gate unsatisfied ({gate}) and no retry target"
        return Finish(FinalStatus.FAIL, reason, gate, decisions)
    return _arrive(graph, state, target, (*decisions, GoalGateRetry(gate=gate, target=target)))


def _after_fan_out(graph: Graph, state: RunState, node: Node, outcome: Outcome) -> Step:
    """The step to the join where the branches ended. The edges of a fan-out are its branches, so no edge is selected."""
    if outcome.failed:
        target = stage_retry_target(graph, node)
        if not target:
            return Finish(FinalStatus.FAIL, _failed_without_edge(node, outcome), node.id)
        jump = NoMatchingFailEdgeFallback(node_id=node.id, retry_target=target, failure_reason=outcome.failure_reason)
        return _arrive(graph, state, target, (jump,))
    join = state.context.get(JOIN_NODE_KEY)
    if not isinstance(join, str) or join not in graph.nodes:
        reason = f"parallel node missing {JOIN_NODE_KEY} in context (at node {node.id})"
        return Finish(FinalStatus.FAIL, reason, node.id)
    return _arrive(graph, state, join)


def _no_edge(graph: Graph, state: RunState, node: Node, outcome: Outcome, decisions: tuple[Event, ...]) -> Step:
    """The step where no edge matches: a failure, or for a node without edges the end as at an exit."""
    if outcome.failed:
        reason = _failed_without_edge(node, outcome)
        if any(not edge.condition and graph.nodes[edge.target].is_exit for edge in graph.outgoing(node.id)):
            reason += "; a failed stage reaches an exit only over an edge whose condition holds, such as outcome=fail"
        return Finish(FinalStatus.FAIL, reason, node.id, decisions)
    if graph.outgoing(node.id) or outcome.custom:
        reason = f'no outgoing edge matched (at node {node.id}, outcome "{outcome.status}"); add an edge without a condition'
        return Finish(FinalStatus.FAIL, reason, node.id, decisions)
    if gates := unsatisfied_gates(graph, state):
        return _back_from_exit(graph, state, gates[0], decisions)
    return Finish(FinalStatus.SUCCESS, node_id=node.id, decisions=decisions)


def _failed_without_edge(node: Node, outcome: Outcome) -> str:
    return f"stage failed with no outgoing fail edge: {one_line(outcome)} (at node {node.id})"


def _failure_cycle(graph: Graph, state: RunState, node: Node) -> DeterministicFailureCycleBreaker | None:
    check = failure_cycle_check(graph, state, node.id, state.outcomes[node.id])
    if check is None or check.signature_count < check.signature_limit:
        return None
    return DeterministicFailureCycleBreaker(
        node_id=check.node_id,
        signature=check.signature,
        signature_count=check.signature_count,
        signature_limit=check.signature_limit,
    )


def _start(graph: Graph) -> Node:
    if graph.start is None:
        missing = Diagnostic(
            "start_node", Severity.ERROR, "the pipeline has no start node", fix="add a node with shape=Mdiamond"
        )
        raise InvalidPipeline(diagnostics=(missing,))
    return graph.start


def _known(graph: Graph, node_id: str) -> Node:
    try:
        return graph.nodes[node_id]
    except KeyError:
        raise CheckpointMismatch(f'the saved run is at node "{node_id}", which the pipeline does not have') from None
