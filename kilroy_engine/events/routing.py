"""Events about the walk's decisions: conditions, edges, retry targets, goal gates, loops."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, TypeAlias

from kilroy_engine.events.base import Event, FailureReason, NodeId

LoopId: TypeAlias = Annotated[str, "`loop_id` of the loop, else the id of the node that ends it"]
LoopEndNode: TypeAlias = Annotated[str, "node that ends an iteration"]


@dataclass(frozen=True, slots=True, kw_only=True)
class EdgeConditionEvaluated(Event):
    """The walk evaluated the condition of an outgoing edge."""

    event: ClassVar[str] = "edge_condition_evaluated"
    says: ClassVar[str] = ""
    node_id: NodeId
    edge_to: Annotated[str, "target of the edge"]
    condition: Annotated[str, "condition as written"]
    matched: Annotated[bool, "whether it holds"]


@dataclass(frozen=True, slots=True, kw_only=True)
class EdgeSelected(Event):
    """The walk goes on to the next node."""

    event: ClassVar[str] = "edge_selected"
    says: ClassVar[str] = "{from_node} -> {to_node}{why:more}"
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
    says: ClassVar[str] = "{node_id} -> {retry_target} [retry target]"
    node_id: NodeId
    retry_target: Annotated[str, "node it jumps to"]
    failure_reason: FailureReason


@dataclass(frozen=True, slots=True, kw_only=True)
class GoalGateRetry(Event):
    """The walk reached an exit while a goal gate is unsatisfied. The walk goes back."""

    event: ClassVar[str] = "goal_gate_retry"
    says: ClassVar[str] = "goal gate {gate} is not satisfied: back to {target}"
    gate: Annotated[str, "id of the unsatisfied gate"]
    target: Annotated[str, "node the walk goes back to"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopIteration(Event):
    """An iteration of a loop is over and another one follows."""

    event: ClassVar[str] = "loop_iteration"
    says: ClassVar[str] = "loop {loop_id}: iteration {iteration} over, again at {begin_node}"
    loop_id: LoopId
    iteration: Annotated[int, "the iteration that is over, counted from 1"]
    begin_node: Annotated[str, "node that the next one begins with"]
    end_node: LoopEndNode


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopTerminated(Event):
    """A loop is over, because one of its conditions holds. The walk goes on over the edges of the loop's end node."""

    event: ClassVar[str] = "loop_terminated"
    says: ClassVar[str] = "loop {loop_id}: over after {iterations:count iteration}"
    loop_id: LoopId
    iterations: Annotated[int, "how many there were"]
    end_node: LoopEndNode
