"""Performs the visits of one walk, each through the orchestrator, linked in the order of the path."""

from __future__ import annotations

from kilroy_engine.execution.lane import Lane
from kilroy_engine.execution.visiting.stage_visit import StageVisit
from kilroy_engine.traversal.outcome import Outcome, failure
from kilroy_engine.traversal.state import RunState, Visit


class Performer:
    """The walk's performer in ``lane``. ``after`` are the links of the visits that the path begins after."""

    def __init__(self, lane: Lane, after: tuple[object, ...] = ()) -> None:
        self._lane = lane
        self.after = after

    def __call__(self, visit: Visit, state: RunState) -> Outcome:
        """Outcome of the visit.

        Raises:
            RunCanceled: A stop was requested.
        """
        self._lane.cancellation.raise_if_requested()
        stage = StageVisit(self._lane, visit, state)
        stage.begin()
        performed = self._lane.orchestrator.perform(stage, self.after)
        self.after = (performed.link,)
        self._lane.cancellation.raise_if_requested()
        return stage.settled(failure(performed.told)) if performed.outcome is None else performed.outcome
