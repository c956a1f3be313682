"""Kilroy's loop primitive at work: after each iteration, whether there is another.

What the work folder says is looked at by who performs the stage and comes with the outcome (:data:`FILE_SEEN_KEY`), so that
the decision depends on graph and state only. The count of iterations is in the context and the decision beside the outcome:
both are saved, and a resume goes on counting.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import assert_never

from kilroy_engine.graph.loops import LOOP_END, Loop, loop_at
from kilroy_engine.graph.model import Graph, Node
from kilroy_engine.graph.statuses import Status, read_status
from kilroy_engine.traversal.outcome import Json, Outcome
from kilroy_engine.traversal.state import LoopEnded, LoopRepeated, RunState

FILE_SEEN_KEY = "loop_file_seen"
"""Key of ``Outcome.meta``: whether the file that ends the loop was there when the stage was over."""
_ROUND_KEY = "loop_round"
_SATISFIED = (Status.SUCCESS, Status.PARTIAL_SUCCESS)


class Turn(StrEnum):
    """What follows an iteration."""

    AGAIN = "again"
    OVER = "over"
    EXCEEDED = "exceeded"


@dataclass(frozen=True, slots=True)
class Round:
    """An iteration that is over: its number, counted from 1, and what follows it."""

    loop: Loop
    iteration: int
    turn: Turn

    @property
    def decision(self) -> LoopRepeated | LoopEnded | None:
        """What is told of it; an exceeded ``loop_max`` is told by the end of the run (Kilroy)."""
        match self.turn:
            case Turn.AGAIN:
                return LoopRepeated(self.loop.id, self.iteration, self.loop.begin, self.loop.end)
            case Turn.OVER:
                return LoopEnded(self.loop.id, self.iteration, self.loop.end)
            case Turn.EXCEEDED:
                return None
            case _:
                assert_never(self.turn)

    @property
    def exceeded_reason(self) -> str:
        """Why the run failed, in Kilroy's words, and how to allow more."""
        return (
            f"loop_max exceeded: {self.loop.maximum} iterations without meeting termination condition "
            f"(at node {self.loop.end}); to allow more, raise loop_max on the node"
        )


def count_round(graph: Graph, state: RunState, node: Node) -> RunState:
    """``state``, whose last stage is ``node``, with one more iteration where a loop ends there: counted, and decided."""
    loop = loop_at(graph, node)
    if loop is None:
        return state
    outcome = state.outcomes[node.id]
    iteration = iterations(state, loop) + 1
    turn = _turn(loop, iteration, outcome, _status_of_loop(node, outcome, state.context))
    meta: dict[str, Json] = {**outcome.meta, _ROUND_KEY: {"iteration": iteration, "turn": str(turn)}}
    return replace(
        state,
        context={**state.context, loop.counter: 0 if turn is Turn.OVER else iteration},
        outcomes={**state.outcomes, node.id: outcome.with_updates(meta=meta)},
        visits_in_rounds=_with_round(state, loop) if turn is Turn.AGAIN and loop.bounded else state.visits_in_rounds,
    )


def _with_round(state: RunState, loop: Loop) -> dict[str, int]:
    """The arrivals in iterations that are over, with those of the loop's latest: all since the last one at its begin.

    Never more than there were: an iteration of a loop may be part of another one's.
    """
    places = [place for place, node_id in enumerate(state.completed) if node_id == loop.begin]
    latest = Counter(state.completed[places[-1] :]) if places else Counter[str]()
    counts = {node_id: state.visits_in_rounds.get(node_id, 0) + times for node_id, times in latest.items()}
    capped = {node_id: min(count, state.visits.get(node_id, 0)) for node_id, count in counts.items()}
    return {**state.visits_in_rounds, **capped}


def round_at(graph: Graph, state: RunState, node: Node) -> Round | None:
    """The iteration that the last stage ``node`` has ended; None where no loop ends there."""
    loop, noted = loop_at(graph, node), state.outcomes[node.id].meta.get(_ROUND_KEY)
    if loop is None or not isinstance(noted, dict):
        return None
    iteration = noted.get("iteration")
    return Round(loop, iteration if isinstance(iteration, int) else 0, Turn(str(noted.get("turn"))))


def iterations(state: RunState, loop: Loop) -> int:
    """How many iterations of the loop are over."""
    count = state.context.get(loop.counter)
    return count if isinstance(count, int) and not isinstance(count, bool) else 0


def without_exceeded_loop(graph: Graph, state: RunState, node_id: str) -> RunState:
    """``state`` with a loop counted anew that has exceeded its ``loop_max`` at the node, so that a resume can help."""
    done = round_at(graph, state, graph.nodes[node_id]) if node_id in state.outcomes else None
    if done is None or done.turn is not Turn.EXCEEDED:
        return state
    return replace(state, context={**state.context, done.loop.counter: 0})


def _turn(loop: Loop, iteration: int, outcome: Outcome, status: str) -> Turn:
    """Kilroy's order: the hard limit comes first, even where a condition ends the loop at that very moment."""
    if 0 < loop.maximum <= iteration:
        return Turn.EXCEEDED
    counted = 0 < loop.count <= iteration
    mended = loop.while_failing and status in _SATISFIED
    return Turn.OVER if counted or mended or outcome.meta.get(FILE_SEEN_KEY) is True else Turn.AGAIN


def _status_of_loop(node: Node, outcome: Outcome, context: Mapping[str, Json]) -> str:
    """The status that ``loop_while_outcome`` looks at: an end does no work of its own, so it is that of the stage before."""
    return read_status(str(context.get("previous_outcome", ""))) if node.type == LOOP_END else outcome.status
