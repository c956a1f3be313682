"""What a handler knows of the run's settings."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from lane_walks import lane_for, pipeline

from kilroy_engine.execution.visiting.stage_visit import StageVisit
from kilroy_engine.graph.model import Node
from kilroy_engine.handlers.base import Handler, StageRequest
from kilroy_engine.handlers.registry import HandlerRegistry
from kilroy_engine.settings.table import RunSettings
from kilroy_engine.traversal.fold import initial_state
from kilroy_engine.traversal.outcome import Outcome, success
from kilroy_engine.traversal.state import Visit


class Asked(HandlerRegistry):
    """One handler for all nodes, which keeps what it is asked."""

    def __init__(self) -> None:
        super().__init__()
        self.requests: list[StageRequest] = []

    def resolve(self, node: Node) -> Handler:
        def answer(request: StageRequest, /) -> Outcome:
            self.requests.append(request)
            return success()

        return answer


def test_a_handler_has_all_settings_of_the_run(tmp_path: Path) -> None:
    """Whole, not one by one: a setting that is added reaches every handler."""
    graph, asked, settings = pipeline("a start -> a -> done"), Asked(), RunSettings(simulate=True, push_remote="origin")
    lane = replace(lane_for(tmp_path / "run", graph), settings=settings, handlers=asked)
    visit = StageVisit(lane, Visit("a", 1), initial_state(graph, run_id="r1", inputs={}))
    visit.begin()
    visit.attempt(1, lambda line: None)
    lane.progress.close()

    assert [request.settings for request in asked.requests] == [settings]
    assert asked.requests[0].simulate
