"""Carries out the effect that a handler asked for, within the visit: a fan-out, a fan-in, a child pipeline, a call."""

from __future__ import annotations

from kilroy_engine.execution.branching.fan_in import fan_in
from kilroy_engine.execution.branching.fan_out import fan_out
from kilroy_engine.execution.lane import Lane
from kilroy_engine.execution.ports import CallPlace
from kilroy_engine.execution.supervising.supervise import supervise
from kilroy_engine.graph.model import Node
from kilroy_engine.handlers.base import CallPrefect, FanIn, FanOut, Supervise
from kilroy_engine.traversal.outcome import Outcome
from kilroy_engine.traversal.state import RunState


def carry_out(
    lane: Lane, node: Node, state: RunState, effect: FanOut | FanIn | CallPrefect | Supervise, attempt: int
) -> Outcome:
    """Carries out ``effect``. ``state`` is the state in which the visit of ``node`` began, ``attempt`` the number of the
    attempt."""
    match effect:
        case FanOut():
            # The fan-out itself does not tick the progress clock; its branches' stages do.
            return fan_out(lane, node, effect, state, attempt=attempt)
        case FanIn():
            return fan_in(lane, node, effect)
        case CallPrefect():
            place = CallPlace(node.id, lane.directory.stage(node.id), lane.cancellation, alive=lane.clock.tick)
            return lane.orchestrator.call(effect, place)
        case Supervise():
            return supervise(lane, node, effect, state, attempt=attempt)
