"""Nodes without work: start, exit, conditional, begin and end of a loop."""

from __future__ import annotations

from kilroy_engine.handlers.base import StageRequest
from kilroy_engine.traversal.outcome import Outcome, success


def start(_request: StageRequest, /) -> Outcome:
    """Does nothing (Spec 4.3)."""
    return success("start")


def exit(_request: StageRequest, /) -> Outcome:  # noqa: A001  # the field's name for this node
    """Does nothing. The walk checks the goal gates (Spec 4.4)."""
    return success("exit")


def conditional(_request: StageRequest, /) -> Outcome:
    """Succeeds. The conditions on a diamond's edges see the outcome of the stage before it (Spec 4.7, Kilroy)."""
    return success("conditional pass-through")


def loop_begin(_request: StageRequest, /) -> Outcome:
    """Does nothing. The iterations of a loop begin here (Kilroy)."""
    return success("loop_begin")


def loop_end(_request: StageRequest, /) -> Outcome:
    """Does nothing. The iterations of a loop end here, and the walk decides whether there is another one (Kilroy)."""
    return success("loop_end")
