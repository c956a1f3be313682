"""The dossier of a failed stage, and the context keys that lead later stages to the dossier (Kilroy: failure dossier)."""

from __future__ import annotations

from dataclasses import replace

from kilroy_engine.events import FailureDossierUpdated
from kilroy_engine.execution.lane import Lane
from kilroy_engine.graph.model import Node
from kilroy_engine.rundir.stages.dossier import FailedStage, read_tool_facts, write_dossier
from kilroy_engine.traversal.fold import DOSSIER_KEYS
from kilroy_engine.traversal.outcome import Json, Outcome
from kilroy_engine.traversal.retry import retry_policy


def report_failure(lane: Lane, node: Node, outcome: Outcome) -> Outcome:
    """Writes the dossier of a failed outcome. Returns the outcome with the context keys that name the dossier."""
    stage_dir = lane.directory.stage(node.id)
    tool = read_tool_facts(stage_dir)
    failed = FailedStage(
        node_id=node.id,
        handler_type=node.type,
        outcome=outcome,
        failure_class=outcome.failure_class,
        attempts_used=outcome.retries + 1,
        max_attempts=retry_policy(lane.graph, node).max_attempts,
        stage_dir=stage_dir,
        output=str(outcome.context_updates.get("tool.output", "")),
        # A copy of the dossier is in the work folder and gets into the repository with the stage's commit.
        tool=replace(tool, stderr_excerpt=lane.inputs.masked(tool.stderr_excerpt)),
    )
    dossier = write_dossier(lane.directory, failed, run_id=lane.run_id, work_dir=lane.workspace.path)
    lane.emit(FailureDossierUpdated(failed_node_id=node.id, failure_class=failed.failure_class, path=dossier.path))
    told: dict[str, Json] = {
        "path": dossier.path,
        "logs_path": str(lane.directory.dossier),
        "failed_node": node.id,
        "failure_class": failed.failure_class,
        "summary": dossier.summary,
    }
    keys = {f"{DOSSIER_KEYS}{key}": value for key, value in told.items()}
    return outcome.with_updates(context_updates={**outcome.context_updates, **keys})
