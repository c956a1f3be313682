"""Where a run goes on after an interruption or a failure: from the saved state to the state that the walk begins with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from kilroy_engine.graph.model import Graph
from kilroy_engine.graph.node_types import CONDITIONAL
from kilroy_engine.graph.vocabulary import Fidelity
from kilroy_engine.traversal.breakers import without_failures
from kilroy_engine.traversal.loops import without_exceeded_loop
from kilroy_engine.traversal.outcome import FinalStatus
from kilroy_engine.traversal.state import Restart, RunState, Visit
from kilroy_engine.traversal.walk import next_step


def resumed_state(graph: Graph, saved: RunState, begun: Callable[[str], int]) -> tuple[RunState, str]:
    """The state to go on from, and the id of the node where the walk goes on.

    - An interrupted visit, which began and is not part of ``saved``: its node is visited again.
    - A failed run: the node that the failure names is visited again. Its failure counts, and the iterations of an exceeded
      loop, are removed, so that they do not end the run at once.
    - A run whose walk was over: the walk ends.

    ``begun`` gives the number of visits of a node that have begun. After a stage of ``full`` fidelity the first agent stage
    gets a summary: the thread's session may be gone, and does not know how the interrupted stage began (Spec 5.3).

    Raises:
        CheckpointMismatch: The state names a node that the graph does not have.
    """
    if saved.last_fidelity == Fidelity.FULL:
        saved = replace(saved, degrade_fidelity=True)
    step = next_step(graph, saved)
    if isinstance(step, Restart):
        return saved, step.target
    if isinstance(step, Visit):
        arrivals = _arrivals(saved, step.node_id, begun)
        if arrivals < step.number:
            return saved, step.node_id
        return replace(_again(saved, step.node_id, arrivals), jump_edge=step.edge), step.node_id
    if step.status is FinalStatus.SUCCESS:
        return saved, step.node_id
    node_id = _failed_stage(graph, saved, step.node_id)
    forgetful = without_failures(without_failures(saved, step.node_id), node_id)
    state = without_exceeded_loop(graph, forgetful)
    return _again(state, node_id, _arrivals(saved, node_id, begun)), node_id


def _failed_stage(graph: Graph, saved: RunState, node_id: str) -> str:
    """The stage to visit again. Where a conditional node passed on a failure, this is the stage that failed."""
    passed_on = saved.routing_outcome is not None and saved.routing_outcome.failed and node_id == saved.last_node
    if not passed_on:
        return node_id
    stages = (done for done in reversed(saved.completed) if done in graph.nodes and graph.nodes[done].type != CONDITIONAL)
    return next(stages, node_id)


def _arrivals(saved: RunState, node_id: str, begun: Callable[[str], int]) -> int:
    """How many visits of the node have begun, by the stage directory or by the saved state."""
    return max(begun(node_id), saved.visits.get(node_id, 0)) if node_id else 0


def _again(state: RunState, node_id: str, arrivals: int) -> RunState:
    """``state`` in which the walk goes to the node next, after ``arrivals`` visits."""
    return replace(state, visits={**state.visits, node_id: arrivals}, jump_to=node_id)
