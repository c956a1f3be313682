"""What one attempt at a node may spend on models, by the node's own limits."""

from __future__ import annotations

import math

from kilroy_engine.events import Event, LlmUsage
from kilroy_engine.execution.budget import BudgetLimits, Meter, usage_of
from kilroy_engine.execution.lane import Lane
from kilroy_engine.graph.attributes import read_int, read_number
from kilroy_engine.graph.model import Node
from kilroy_engine.traversal.failure import FailureClass
from kilroy_engine.traversal.outcome import Outcome, Status

COST_ATTRIBUTE = "budget.max_cost_usd"
TOKENS_ATTRIBUTE = "budget.max_tokens"


def node_limits(node: Node) -> BudgetLimits:
    """The limits that the node's attributes set for each of its attempts. A value that is no amount above 0 is no limit; the
    checks say so."""
    tokens = read_int(node.text(TOKENS_ATTRIBUTE), default=None)
    return BudgetLimits(_dollars(node.text(COST_ATTRIBUTE)), tokens if tokens and tokens > 0 else None)


class AttemptSpending:
    """Where an attempt tells its events, and what asks it to stop. A node without limits has the lane's own."""

    def __init__(self, lane: Lane, node: Node) -> None:
        self._lane = lane
        self.limits = node_limits(node)
        self.cancellation = lane.cancellation.linked() if self.limits else lane.cancellation
        self._meter = Meter(self.limits, lane.emit, self.cancellation, node_id=node.id) if self.limits else None

    def tell(self, event: Event) -> None:
        """Appends the event to the lane's stream, and counts what it says was spent."""
        self._lane.emit(event)
        if self._meter is not None and isinstance(event, LlmUsage):
            self._meter.add(usage_of(event))

    @property
    def cost_left_usd(self) -> float | None:
        """What the attempt may cost in US dollars: the node's limit or what is left of the run's, None for no limit."""
        limits = [limit for limit in (self.limits.cost_usd, self._lane.budget.cost_left_usd) if limit is not None]
        return min(limits, default=None)

    def judged(self, outcome: Outcome) -> Outcome:
        """``outcome``, or the failure that passing the node's own limit is. A stop of the run's is told as that."""
        exhausted = self._meter.exhausted if self._meter is not None else ""
        if not exhausted or self._lane.cancellation.requested:
            return outcome
        kind = FailureClass.BUDGET_EXHAUSTED
        return outcome.with_updates(
            status=Status.FAIL, failure_reason=exhausted, failure_class=kind, preferred_label="", suggested_next_ids=()
        )


def _dollars(text: str) -> float | None:
    amount = read_number(text, default=None) or 0
    return amount if 0 < amount < math.inf else None
