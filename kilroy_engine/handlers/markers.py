"""Nodes that only mark a place in the graph: start, exit, conditional, begin and end of a loop."""

from __future__ import annotations

from kilroy_engine.handlers.base import StageRequest
from kilroy_engine.traversal.outcome import Outcome, success


def start(_request: StageRequest, /) -> Outcome:
    """The entry point does nothing (Spec 4.3)."""
    return success("start")


def exit(_request: StageRequest, /) -> Outcome:  # noqa: A001  # the field's name for this node
    """The exit does nothing; goal gates are the walk's business (Spec 4.4)."""
    return success("exit")


def conditional(_request: StageRequest, /) -> Outcome:
    """A diamond succeeds; the conditions on its edges see the outcome of the stage before it (Spec 4.7, Kilroy)."""
    return success("conditional pass-through")


def loop_begin(_request: StageRequest, /) -> Outcome:
    """Where the iterations of a loop begin (Kilroy)."""
    return success("loop_begin")


def loop_end(_request: StageRequest, /) -> Outcome:
    """Where they end; whether there is another one is the walk's business (Kilroy)."""
    return success("loop_end")
