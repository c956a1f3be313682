"""The commit of a visit: the stage's work in the place of work, committed before the walk goes on."""

from __future__ import annotations

from kilroy_engine.errors import WorkInConflict, WorkspaceError
from kilroy_engine.events import WarningGiven
from kilroy_engine.execution.lane import Lane
from kilroy_engine.rundir.stages.process_groups import any_alive
from kilroy_engine.traversal.failure import FailureClass
from kilroy_engine.traversal.outcome import Outcome, Status


def commit_visit(lane: Lane, node_id: str, status: str) -> str:
    """Commits the work of a visit with the outcome ``status``. Returns the commit's id, empty for a plain folder.

    Raises:
        WorkspaceError: git refused, or the stage left a state that cannot be committed.
    """
    stage_dir = lane.directory.stage(node_id)
    made = lane.workspace.commit_stage(node_id, status, lambda: any_alive(stage_dir))
    for warning in made.warnings:
        lane.emit(WarningGiven(message=f"{node_id}: {warning}"))
    return made.sha


def clear_locks(lane: Lane, node_id: str) -> None:
    """Removes git locks that an attempt has left, because they would make git fail in the next attempt. Called between
    attempts."""
    stage_dir = lane.directory.stage(node_id)
    try:
        lane.workspace.clear_locks(lambda: any_alive(stage_dir))
    except WorkspaceError as error:
        lane.emit(WarningGiven(message=f"{node_id}: {error}"))


def refused(outcome: Outcome, error: WorkspaceError) -> Outcome:
    """The failed outcome of a stage whose work could not be committed. The edge that the success wished for is dropped."""
    # git may succeed at the next attempt, but files in conflict stay so until somebody resolves them.
    in_conflict = isinstance(error, WorkInConflict)
    return outcome.with_updates(
        status=Status.FAIL,
        failure_reason=f"its work could not be committed: {error}",
        failure_class=FailureClass.DETERMINISTIC if in_conflict else FailureClass.TRANSIENT_INFRA,
        preferred_label="",
        suggested_next_ids=(),
    )


def commit_failure(lane: Lane, node_id: str) -> None:
    """Commits the work of a failed visit. If git refuses, the files stay in the place of work, and a warning says so."""
    try:
        commit_visit(lane, node_id, Status.FAIL)
    except WorkspaceError as error:
        what = "what the failed stage left could not be committed; the next stage's commit takes it along"
        lane.emit(WarningGiven(message=f"{node_id}: {what}: {error}"))
