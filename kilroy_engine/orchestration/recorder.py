"""Writes down what the walk tells: events, checkpoints, log records. One call per step of the walk."""

from __future__ import annotations

from dataclasses import asdict

from kilroy_engine.events import (
    CheckpointSaved,
    DeterministicFailureCycleCheck,
    SubgraphDeterministicFailureCycleCheck,
    WarningGiven,
    event_of,
)
from kilroy_engine.orchestration.lane import Lane
from kilroy_engine.orchestration.opening import OpenRun
from kilroy_engine.rundir.files.checkpoint import save_checkpoint
from kilroy_engine.traversal.breakers import failure_cycle_check
from kilroy_engine.traversal.outcome import Outcome
from kilroy_engine.traversal.state import Decision, EdgeSelected, Finish, Restart, RunState, Visit


def tell_opened(run: OpenRun) -> None:
    """What is known before the first stage: the place of work, and the warnings that the settings gave."""
    path, branch = str(run.workspace.path), run.workspace.branch
    if branch and run.restore_to is None:
        run.log.worktree_created(path, branch=branch, base_sha=run.workspace.base_sha)
    run.log.run_started(run.run_id, graph=run.prepared.name, workspace=path, inputs=run.inputs.shown)
    for warning in run.settings.warnings:
        run.emit(WarningGiven(message=warning))


class LaneRecorder:
    """The walk's recorder. Order per stage: cycle check, checkpoint, then the edge. The commit is part of the visit."""

    def __init__(self, lane: Lane) -> None:
        self._lane = lane

    def work_on(self, lane: Lane) -> None:
        """The walk goes on in another lane."""
        self._lane = lane

    def visit_started(self, visit: Visit, state: RunState, /) -> None:
        """Tells how the walk came to the node."""
        self._tell(visit.decisions)

    def outcome_recorded(self, visit: Visit, outcome: Outcome, state: RunState, /) -> None:
        """Saves the state that includes the stage's outcome, with the commit that holds its work."""
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
        """Tells the decisions that led to the end; the end itself is the state hook's to write."""
        self._tell(finish.decisions)

    def restarting(self, restart: Restart) -> None:
        """Tells the decisions that led to a restart, in the directory that the run leaves."""
        self._tell(restart.decisions)

    def _count_failure(self, visit: Visit, outcome: Outcome, state: RunState) -> None:
        lane = self._lane
        check = failure_cycle_check(lane.graph, state, visit.node_id, outcome)
        if check is not None:
            kind = SubgraphDeterministicFailureCycleCheck if lane.path else DeterministicFailureCycleCheck
            lane.emit(kind(**asdict(check)))

    def _tell(self, decisions: tuple[Decision, ...]) -> None:
        for decision in decisions:
            lane = self._lane
            lane.emit(event_of(decision, logs_root=str(lane.directory.path), subgraph=bool(lane.path)))
            if isinstance(decision, EdgeSelected):
                self._lane.log.edge_selected(
                    decision.from_node, decision.to_node, method=decision.selection_method, condition=decision.condition
                )
