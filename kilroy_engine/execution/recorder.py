"""Records each step of the walk: events, checkpoints, log records."""

from __future__ import annotations

from dataclasses import asdict, replace

from kilroy_engine.events import (
    CheckpointSaved,
    DeterministicFailureCycleBreaker,
    DeterministicFailureCycleCheck,
    EdgeSelected,
    Event,
    LoopRestartSignature,
    StuckCycleBreaker,
    SubgraphDeterministicFailureCycleBreaker,
    SubgraphDeterministicFailureCycleCheck,
    WarningGiven,
)
from kilroy_engine.execution.lane import Lane
from kilroy_engine.execution.opening import OpenedRun
from kilroy_engine.rundir.files.checkpoint import save_checkpoint
from kilroy_engine.traversal.breakers import failure_cycle_check
from kilroy_engine.traversal.outcome import Outcome
from kilroy_engine.traversal.state import Finish, Restart, RunState, Visit


def tell_opened(opened: OpenedRun) -> None:
    """Records the place of work and the warnings of the settings. Called before the first stage of a start."""
    lane, workspace = opened.lane, opened.lane.workspace
    path, branch = str(workspace.path), workspace.branch
    if branch and opened.restore_to is None:
        lane.log.worktree_created(path, branch=branch, base_sha=workspace.base_sha)
    lane.log.run_started(lane.run_id, graph=opened.prepared.name, workspace=path, inputs=lane.inputs.shown)
    for warning in lane.settings.warnings:
        lane.emit(WarningGiven(message=warning))


class LaneRecorder:
    """The recorder of one lane; the walk calls it at each step. Order for each visit: the check for cycles of failures, the
    checkpoint, then the chosen edge. The commit was made in the visit."""

    def __init__(self, lane: Lane) -> None:
        self._lane = lane

    def visit_started(self, visit: Visit, state: RunState, /) -> None:
        """Records the decisions that led to the node."""
        self._tell(visit.decisions)

    def outcome_recorded(self, visit: Visit, outcome: Outcome, state: RunState, /) -> None:
        """Saves the state after the visit, with the commit that holds the visit's work."""
        lane, node_id = self._lane, visit.node_id
        if outcome.failed:
            self._count_failure(visit, outcome, state)
        sha = lane.workspace.committed
        save_checkpoint(lane.directory, state, git_commit_sha=sha, base=lane.base if state.restart_count else None)
        lane.emit(CheckpointSaved(node_id=node_id, git_commit_sha=sha))
        lane.log.checkpoint_saved(node_id, sha=sha)
        if outcome.context_updates:
            lane.log.context_updated(node_id, sorted(outcome.context_updates))

    def finished(self, finish: Finish, state: RunState, /) -> None:
        """Records the decisions that led to the end of the walk. The state hook records the end of the run."""
        self._tell(finish.decisions)

    def restarting(self, restart: Restart, state: RunState, /) -> None:
        """Records the decisions that led to a restart, in the directory that the run leaves."""
        self._tell(restart.decisions)

    def _count_failure(self, visit: Visit, outcome: Outcome, state: RunState) -> None:
        lane = self._lane
        check = failure_cycle_check(lane.graph, state, visit.node_id, outcome)
        if check is not None:
            lane.emit(_in_lane(lane, check))

    def _tell(self, decisions: tuple[Event, ...]) -> None:
        lane = self._lane
        for event in decisions:
            lane.emit(_in_lane(lane, event))
            if isinstance(event, EdgeSelected):
                lane.log.edge_selected(event.from_node, event.to_node, method=event.selection_method, condition=event.condition)


def _in_lane(lane: Lane, event: Event) -> Event:
    """The event with facts that the walk does not know: the lane's directory, and Kilroy's event names for a branch."""
    match event:
        case LoopRestartSignature():
            return replace(event, current_logs_root=str(lane.directory.path))
        case StuckCycleBreaker() if lane.path:
            return replace(event, subgraph=True)
        case DeterministicFailureCycleCheck() if lane.path:
            return SubgraphDeterministicFailureCycleCheck(**asdict(event))
        case DeterministicFailureCycleBreaker() if lane.path:
            return SubgraphDeterministicFailureCycleBreaker(**asdict(event))
        case _:
            return event
