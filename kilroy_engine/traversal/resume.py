"""Where a run goes on after it was interrupted or has failed: from the saved state to the one that the walk begins with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from kilroy_engine.graph.model import Graph
from kilroy_engine.graph.vocabulary import Fidelity
from kilroy_engine.traversal.breakers import without_failures
from kilroy_engine.traversal.outcome import FinalStatus
from kilroy_engine.traversal.state import Finish, RunState
from kilroy_engine.traversal.walk import next_step


def resumed_state(graph: Graph, saved: RunState, begun: Callable[[str], int]) -> tuple[RunState, str]:
    """The state to go on from, and the node where that is.

    A visit that began and is not part of ``saved`` was interrupted: its node is visited again. A run that failed goes on at the
    node that its failure names, whose failures are forgotten, so that the count of them does not end the run at once. A run
    that only had to end ends. ``begun`` tells how many visits of a node have begun.

    After a stage of ``full`` fidelity the first agent is given a summary instead: its thread's session may be gone, and does
    not know how the interrupted stage began (Spec 5.3).

    Raises:
        CheckpointMismatch: The state names a node that the graph does not have.
    """
    if saved.last_fidelity == Fidelity.FULL:
        saved = replace(saved, degrade_fidelity=True)
    step = next_step(graph, saved)
    arrivals = max(begun(step.node_id), saved.visits.get(step.node_id, 0)) if step.node_id else 0
    if isinstance(step, Finish):
        if step.status is FinalStatus.SUCCESS:
            return saved, step.node_id
        return _again(without_failures(saved, step.node_id), step.node_id, arrivals), step.node_id
    if arrivals < step.number:
        return saved, step.node_id
    return replace(_again(saved, step.node_id, arrivals), jump_edge=step.edge), step.node_id


def _again(state: RunState, node_id: str, arrivals: int) -> RunState:
    return replace(state, visits={**state.visits, node_id: arrivals}, jump_to=node_id)
