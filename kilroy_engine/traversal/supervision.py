"""Supervision of a child pipeline: the facts that a manager sees, and the manager's decision in each cycle (Spec 4.11).
Pure.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from kilroy_engine.graph.attributes import read_duration_s, read_int
from kilroy_engine.graph.conditions import Condition, evaluate, parse_condition
from kilroy_engine.graph.model import Node
from kilroy_engine.traversal.fold import CARRIED_KEYS
from kilroy_engine.traversal.outcome import FinalStatus, Json, Outcome, Status, failure, success

POLL_INTERVAL_S = 45.0
MAX_CYCLES = 1000
NO_CONDITION = Condition("")
_OF_THE_PARENT = ("graph.", "internal.", "parallel.", "stack.child.")
_OF_ITS_WALK = CARRIED_KEYS | {"previous_node", "previous_outcome", "current_node", "completed_nodes"}


class ChildStatus(StrEnum):
    """The status of a child pipeline: the value of ``stack.child.status``."""

    NOT_STARTED = "not_started"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELED = "canceled"


_OUTCOMES: Mapping[ChildStatus, str] = {
    ChildStatus.COMPLETED: FinalStatus.SUCCESS,
    ChildStatus.FAILED: FinalStatus.FAIL,
    ChildStatus.CANCELED: FinalStatus.CANCELED,
}


@dataclass(frozen=True, slots=True)
class ChildFacts:
    """The facts that are seen of a child pipeline.

    - ``current_node``: the node whose attempt began last.
    - ``completed_count``, ``failed_count``: the stages that ended, and the attempts that failed.
    - ``failure_reason``: the reason of the child's end, else of the last failed attempt.
    """

    status: ChildStatus = ChildStatus.NOT_STARTED
    current_node: str = ""
    completed_count: int = 0
    failed_count: int = 0
    failure_reason: str = ""

    @property
    def ended(self) -> bool:
        return self.status in _OUTCOMES

    def context(self) -> dict[str, Json]:
        """The facts as context keys, for conditions and later stages."""
        return {
            "stack.child.status": str(self.status),
            "stack.child.outcome": str(_OUTCOMES.get(self.status, "")),
            "stack.child.current_node": self.current_node,
            "stack.child.completed_count": self.completed_count,
            "stack.child.failed_count": self.failed_count,
            "stack.child.failure_reason": self.failure_reason,
        }


@dataclass(frozen=True, slots=True)
class Supervision:
    """How a manager supervises: one look every ``poll_interval_s`` seconds, at most ``max_cycles`` looks."""

    poll_interval_s: float = POLL_INTERVAL_S
    max_cycles: int = MAX_CYCLES
    stop_condition: Condition = NO_CONDITION
    steers: bool = False

    @classmethod
    def of(cls, node: Node) -> Supervision:
        """Reads the node's ``manager.*`` attributes. An unusable value counts as absent.

        Raises:
            ConditionSyntaxError: The stop condition does not parse.
        """
        cycles = read_int(node.text("manager.max_cycles"), default=MAX_CYCLES)
        return cls(
            poll_interval_s=read_duration_s(node.text("manager.poll_interval"), default=POLL_INTERVAL_S),
            max_cycles=cycles if cycles > 0 else MAX_CYCLES,
            stop_condition=parse_condition(node.text("manager.stop_condition")),
            steers="steer" in [action.strip() for action in node.text("manager.actions").split(",")],
        )


def judge(plan: Supervision, facts: ChildFacts, cycle: int, context: Mapping[str, Json]) -> Outcome | None:
    """The manager's outcome in this cycle (from 1); None to go on.

    The child's end decides first, even after ``max_cycles``. The stop condition sees the run's ``context`` with the facts, and
    ``outcome`` as success (Kilroy).
    """
    if facts.ended:
        return ended_outcome(facts)
    if cycle > plan.max_cycles:
        return failure(f"manager loop max cycles exceeded ({plan.max_cycles})")
    if plan.stop_condition.clauses and _holds(plan.stop_condition, {**context, **facts.context()}):
        return success(f"stop condition satisfied in cycle {cycle}: {plan.stop_condition.text}")
    return None


def ended_outcome(facts: ChildFacts) -> Outcome:
    """The outcome of a node whose child pipeline has ended."""
    if facts.status is ChildStatus.COMPLETED:
        return success(f"child pipeline completed ({facts.completed_count} stages)")
    return failure(f"child pipeline failed: {facts.failure_reason or 'no reason given'}")


def inherited_context(context: Mapping[str, Json]) -> dict[str, Json]:
    """The context that a child pipeline begins with: the keys that stages have set, without keys that say where the run around
    it is.
    """
    return {
        key: copy.deepcopy(value)
        for key, value in context.items()
        if key not in _OF_ITS_WALK and not key.startswith(_OF_THE_PARENT)
    }


def _holds(condition: Condition, context: Mapping[str, Json]) -> bool:
    return evaluate(condition, outcome=Status.SUCCESS, preferred_label="", context=context)
