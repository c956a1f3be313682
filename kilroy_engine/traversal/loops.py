"""Kilroy's loop primitive: decides after each iteration of a loop whether another one follows.

A loop may depend on a file in the work folder. The code that performs the stage looks for the file and puts the result into the
outcome (``loop_file_seen``), so that the decision depends on graph and state only. The context holds the number of iterations,
the state holds the decision (``loop_round``). Both are saved, so that a resume goes on counting.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import assert_never

from kilroy_engine.events.routing import LoopIteration, LoopTerminated
from kilroy_engine.graph.loops import Loop, loop_at
from kilroy_engine.graph.model import Graph, Node
from kilroy_engine.graph.node_types import LOOP_END
from kilroy_engine.graph.statuses import Status, read_status
from kilroy_engine.traversal.outcome import Json, Outcome
from kilroy_engine.traversal.state import LoopRound, RunState, Turn

_SATISFIED = (Status.SUCCESS, Status.PARTIAL_SUCCESS)


@dataclass(frozen=True, slots=True)
class Round:
    """The iteration of ``loop`` that the last stage has ended, and what follows."""

    loop: Loop
    iteration: int
    turn: Turn

    @property
    def decision(self) -> LoopIteration | LoopTerminated | None:
        """The event about the iteration. None where ``loop_max`` is exceeded: the end of the run tells that (Kilroy)."""
        match self.turn:
            case Turn.AGAIN:
                return LoopIteration(
                    loop_id=self.loop.id, iteration=self.iteration, begin_node=self.loop.begin, end_node=self.loop.end
                )
            case Turn.OVER:
                return LoopTerminated(loop_id=self.loop.id, iterations=self.iteration, end_node=self.loop.end)
            case Turn.EXCEEDED:
                return None
            case _:
                assert_never(self.turn)

    @property
    def exceeded_reason(self) -> str:
        """Why the run failed, in Kilroy's words, and how to allow more iterations."""
        return (
            f"loop_max exceeded: {self.loop.maximum} iterations without meeting termination condition "
            f"(at node {self.loop.end}); to allow more, raise loop_max on the node"
        )


def count_round(graph: Graph, state: RunState, node: Node) -> RunState:
    """Counts an iteration where a loop ends at ``node``, the last stage of ``state``, and decides what follows."""
    loop = loop_at(graph, node)
    if loop is None:
        return replace(state, loop_round=None)
    outcome = state.outcomes[node.id]
    iteration = iterations(state, loop) + 1
    turn = _turn(loop, iteration, outcome, _status_of_loop(node, outcome, state.context))
    return replace(
        state,
        context={**state.context, loop.counter: 0 if turn is Turn.OVER else iteration},
        loop_round=LoopRound(iteration, turn),
        visits_in_rounds=_with_round(state, loop) if turn is Turn.AGAIN and loop.bounded else state.visits_in_rounds,
    )


def _with_round(state: RunState, loop: Loop) -> dict[str, int]:
    """The visits in finished iterations, with those of the latest one: all since the last visit of the loop's first node.

    A node's count is never above its visits: an iteration may be part of another loop's iteration.
    """
    places = [place for place, node_id in enumerate(state.completed) if node_id == loop.begin]
    latest = Counter(state.completed[places[-1] :]) if places else Counter[str]()
    counts = {node_id: state.visits_in_rounds.get(node_id, 0) + times for node_id, times in latest.items()}
    capped = {node_id: min(count, state.visits.get(node_id, 0)) for node_id, count in counts.items()}
    return {**state.visits_in_rounds, **capped}


def last_round(graph: Graph, state: RunState) -> Round | None:
    """The iteration that the last stage has ended; None where no loop ends there."""
    done = state.loop_round
    loop = loop_at(graph, graph.nodes[state.last_node]) if done and state.last_node in graph.nodes else None
    return Round(loop, done.iteration, done.turn) if done and loop else None


def iterations(state: RunState, loop: Loop) -> int:
    """How many iterations of the loop are over."""
    count = state.context.get(loop.counter)
    return count if isinstance(count, int) and not isinstance(count, bool) else 0


def without_exceeded_loop(graph: Graph, state: RunState) -> RunState:
    """``state`` with the iterations set to 0 where the last stage exceeded ``loop_max``. Called by a resume."""
    done = last_round(graph, state)
    if done is None or done.turn is not Turn.EXCEEDED:
        return state
    return replace(state, context={**state.context, done.loop.counter: 0})


def _turn(loop: Loop, iteration: int, outcome: Outcome, status: str) -> Turn:
    """Kilroy's order: ``loop_max`` decides first, even where a condition ends the loop in the same iteration."""
    if 0 < loop.maximum <= iteration:
        return Turn.EXCEEDED
    counted = 0 < loop.count <= iteration
    mended = loop.while_failing and status in _SATISFIED
    return Turn.OVER if counted or mended or outcome.loop_file_seen else Turn.AGAIN


def _status_of_loop(node: Node, outcome: Outcome, context: Mapping[str, Json]) -> str:
    """The status for ``loop_while_outcome``. A loop end node does no work, so there the status is the previous stage's."""
    return read_status(str(context.get("previous_outcome", ""))) if node.type == LOOP_END else outcome.status
