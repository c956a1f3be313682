"""Nodes that do nothing."""

from __future__ import annotations

from collections.abc import Callable

from kilroy_engine.handlers import markers
from kilroy_engine.handlers.base import StageRequest

Requests = Callable[..., StageRequest]


def test_start_and_exit_succeed_with_kilroys_notes(request_for: Requests) -> None:
    """Recorded runs have exactly these in ``status.json``."""
    request = request_for("start -> exit", "start")

    assert (markers.start(request).status, markers.start(request).notes) == ("success", "start")
    assert (markers.exit(request).status, markers.exit(request).notes) == ("success", "exit")


def test_a_diamond_succeeds_whatever_came_before(request_for: Requests) -> None:
    """Its edges see the outcome before it; that is the walk's business."""
    outcome = markers.conditional(request_for("a [shape=diamond]", context={"outcome": "fail"}))

    assert (outcome.status, outcome.notes) == ("success", "conditional pass-through")
