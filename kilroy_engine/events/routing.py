"""Events of the walk's decisions, and how they follow from the decisions themselves."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Annotated, ClassVar, TypeAlias, assert_never

from kilroy_engine.events.base import Event, FailureReason, NodeId
from kilroy_engine.events.parallel import SubgraphDeterministicFailureCycleBreaker
from kilroy_engine.events.run import LoopRestartBlocked, LoopRestartCircuitBreaker, LoopRestartSignature
from kilroy_engine.events.stage import DeterministicFailureCycleBreaker, StuckCycleBreaker
from kilroy_engine.traversal import state

LoopId: TypeAlias = Annotated[str, "`loop_id` of the loop, else the id of the node that ends it"]
LoopEndNode: TypeAlias = Annotated[str, "node that ends an iteration"]


@dataclass(frozen=True, slots=True, kw_only=True)
class EdgeConditionEvaluated(Event):
    """The condition of an outgoing edge was looked at."""

    event: ClassVar[str] = "edge_condition_evaluated"
    node_id: NodeId
    edge_to: Annotated[str, "target of the edge"]
    condition: Annotated[str, "condition as written"]
    matched: Annotated[bool, "whether it holds"]


@dataclass(frozen=True, slots=True, kw_only=True)
class EdgeSelected(Event):
    """The walk goes on to the next node."""

    event: ClassVar[str] = "edge_selected"
    from_node: Annotated[str, "node it leaves"]
    to_node: Annotated[str, "node it goes to"]
    label: Annotated[str, "label of the edge"]
    condition: Annotated[str, "condition of the edge"]
    hop_source: Annotated[str, "`edge_selection`, `conditional` or `retry_target`"]
    selection_method: Annotated[
        str, "`condition_match`, `preferred_label`, `suggested_next_ids`, `only_edge`, `weight`, `lexical_tiebreak` or empty"
    ]
    candidates_evaluated: Annotated[int, "outgoing edges looked at"]
    conditions_matched: Annotated[int, "how many of their conditions hold"]


@dataclass(frozen=True, slots=True, kw_only=True)
class NoMatchingFailEdgeFallback(Event):
    """A failed stage has no matching edge and jumps to its retry target."""

    event: ClassVar[str] = "no_matching_fail_edge_fallback"
    node_id: NodeId
    retry_target: Annotated[str, "node it jumps to"]
    failure_reason: FailureReason


@dataclass(frozen=True, slots=True, kw_only=True)
class GoalGateRetry(Event):
    """An exit was reached while a goal gate is unsatisfied; the walk goes back."""

    event: ClassVar[str] = "goal_gate_retry"
    gate: Annotated[str, "id of the unsatisfied gate"]
    target: Annotated[str, "node the walk goes back to"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopIteration(Event):
    """An iteration of a loop is over and another one follows."""

    event: ClassVar[str] = "loop_iteration"
    loop_id: LoopId
    iteration: Annotated[int, "the iteration that is over, counted from 1"]
    begin_node: Annotated[str, "node that the next one begins with"]
    end_node: LoopEndNode


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopTerminated(Event):
    """A loop is over: one of its conditions holds. The walk goes on over the edges of its end."""

    event: ClassVar[str] = "loop_terminated"
    loop_id: LoopId
    iterations: Annotated[int, "how many there were"]
    end_node: LoopEndNode


def event_of(decision: state.Decision, *, logs_root: str, subgraph: bool = False) -> Event:
    """The event that tells a decision of the walk; ``logs_root`` is the directory that the walk works in. ``subgraph`` is for
    the walk of a branch, for which Kilroy has other words."""
    match decision:
        case state.ConditionEvaluated(node_id, edge_to, condition, matched):
            return EdgeConditionEvaluated(node_id=node_id, edge_to=edge_to, condition=condition, matched=matched)
        case state.EdgeSelected():
            return EdgeSelected(
                from_node=decision.from_node,
                to_node=decision.to_node,
                label=decision.label,
                condition=decision.condition,
                hop_source=decision.hop_source,
                selection_method=decision.selection_method,
                candidates_evaluated=decision.candidates_evaluated,
                conditions_matched=decision.conditions_matched,
            )
        case state.RetryTargetTaken(node_id, retry_target, failure_reason):
            return NoMatchingFailEdgeFallback(node_id=node_id, retry_target=retry_target, failure_reason=failure_reason)
        case state.GoalGateRetried(gate, target):
            return GoalGateRetry(gate=gate, target=target)
        case state.StuckCycle(node_id, visit_count, visit_limit):
            return StuckCycleBreaker(
                node_id=node_id, visit_count=visit_count, visit_limit=visit_limit, subgraph=subgraph or None
            )
        case state.FailureCycle(node_id, signature, count, limit):
            kind = SubgraphDeterministicFailureCycleBreaker if subgraph else DeterministicFailureCycleBreaker
            return kind(node_id=node_id, signature=signature, signature_count=count, signature_limit=limit)
        case state.LoopRepeated(loop_id, iteration, begin_node, end_node):
            return LoopIteration(loop_id=loop_id, iteration=iteration, begin_node=begin_node, end_node=end_node)
        case state.LoopEnded(loop_id, iterations, end_node):
            return LoopTerminated(loop_id=loop_id, iterations=iterations, end_node=end_node)
        case state.RestartSigned():
            return LoopRestartSignature(**asdict(decision), current_logs_root=logs_root)
        case state.RestartBlocked():
            return LoopRestartBlocked(**asdict(decision))
        case state.RestartCycle():
            return LoopRestartCircuitBreaker(**asdict(decision))
        case _:
            assert_never(decision)
