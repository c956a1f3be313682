"""Performs the visits of one walk through the orchestrator. Each visit is linked to the visit before it."""

from __future__ import annotations

from kilroy_engine.execution.lane import Lane
from kilroy_engine.execution.visiting.stage_visit import StageVisit
from kilroy_engine.traversal.outcome import Outcome, failure
from kilroy_engine.traversal.state import RunState, Visit


class Performer:
    """The performer of the walk in ``lane``. ``after`` are the links of the visits before the next one."""

    def __init__(self, lane: Lane, after: tuple[object, ...] = ()) -> None:
        self._lane = lane
        self.after = after

    def __call__(self, visit: Visit, state: RunState) -> Outcome:
        """Carries out the visit and returns its outcome.

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
