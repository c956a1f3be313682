"""A branch's walk: where it begins, which context it begins with, and the branch's outcome (Spec 4.8, Kilroy)."""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping
from dataclasses import dataclass

from kilroy_engine.graph.analysis import nearest_join
from kilroy_engine.graph.model import Graph, Node
from kilroy_engine.traversal.fanin import MERGE_MODE_KEY, RESULTS_KEY
from kilroy_engine.traversal.goals import unsatisfied_gates
from kilroy_engine.traversal.outcome import FinalStatus, Json, Outcome, Status, failure, success
from kilroy_engine.traversal.state import Finish, RunState
from kilroy_engine.traversal.walk import JOIN_NODE_KEY

_OF_THE_WALK = frozenset(
    {"previous_node", "previous_outcome", "current_node", "completed_nodes", JOIN_NODE_KEY, MERGE_MODE_KEY, RESULTS_KEY}
)
_UNSAFE = re.compile(r"[^a-z0-9\-_.]")


@dataclass(frozen=True, slots=True)
class Branch:
    """A branch of a fan-out: one of the fan-out's outgoing edges.

    ``edge`` is the ``Edge.index`` of that edge. ``number`` counts the fan-out's edges from 1. ``key`` is the branch's name,
    unique in the fan-out.
    """

    number: int
    key: str
    start_node_id: str
    edge: int | None = None


@dataclass(frozen=True, slots=True)
class BranchPlan:
    """The branches of a fan-out and the node where they end. ``merges`` is false where that node is no fan-in."""

    branches: tuple[Branch, ...]
    join_node_id: str
    merges: bool


def branch_plan(graph: Graph, node: Node) -> BranchPlan | None:
    """Makes a branch of each outgoing edge of the fan-out ``node``, whatever the edge's attributes say. None where the branches
    never meet.
    """
    join = nearest_join(graph, node.id)
    if join is None:
        return None
    branches: list[Branch] = []
    taken: set[str] = set()
    for number, edge in enumerate(graph.outgoing(node.id), start=1):
        key = _UNSAFE.sub("-", edge.target.lower()).strip("-.") or f"branch-{number}"
        while key in taken:
            key = f"{key}-{number}"
        taken.add(key)
        branches.append(Branch(number, key, edge.target, edge.index))
    return BranchPlan(tuple(branches), join.node_id, join.merges)


def branch_state(state: RunState, fan_out: Node, branch: Branch) -> RunState:
    """The state in which a branch begins: a copy of the fan-out's context, and no memory of visits, failures and retries.

    The edge's ``fidelity`` and ``thread_id`` apply to the branch's first stage. Agent sessions are not continued in a branch,
    because two branches would continue the same one. A thread begins a new session in the branch, which only that branch
    continues.
    """
    context: dict[str, Json] = {**copy.deepcopy(dict(state.context)), "previous_node": fan_out.id}
    return RunState(
        run_id=state.run_id,
        context=context,
        routing_outcome=state.routing_outcome,
        jump_to=branch.start_node_id,
        jump_edge=branch.edge,
        degrade_fidelity=state.degrade_fidelity,
    )


def branch_outcome(graph: Graph, branch: Branch, join_node_id: str, finish: Finish, state: RunState) -> Outcome:
    """The branch's outcome for the fan-out's join policy. Called when the branch's walk is over.

    Where the branch arrived at the join, this is the outcome of its last stage, or the outcome that a conditional node passed
    on. A branch that ended elsewhere, or with an unsatisfied goal gate, has failed, whatever its last stage's outcome is.
    """
    last = state.routing_outcome if state.completed else None
    if finish.node_id == join_node_id and finish.status is FinalStatus.SUCCESS:
        if gates := unsatisfied_gates(graph, state):
            return failure(f"goal gate unsatisfied ({gates[0]}) in branch {branch.key}")
        return last or success("no stage in this branch")
    reason = finish.reason or f'branch {branch.key} ended at node "{finish.node_id}", before the join "{join_node_id}"'
    if last is None or not last.failed:
        return failure(reason)
    return last.with_updates(status=Status.FAIL, failure_reason=reason)


def changed_context(before: Mapping[str, Json], after: Mapping[str, Json]) -> dict[str, Json]:
    """The context keys that the branch's stages have set or changed, for the branch's record.

    Left out are keys that only say where the walk is. A stage cannot remove a key.
    """
    return {
        key: value
        for key, value in after.items()
        if key not in _OF_THE_WALK and not key.startswith("internal.") and (key not in before or before[key] != value)
    }
