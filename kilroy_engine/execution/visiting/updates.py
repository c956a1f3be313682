"""Filters for a stage's outcome before it enters the run's context, files and events.

They drop updates of the engine's own keys, mask secrets, and keep large values in files.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from kilroy_engine.events import ArtifactSaved, WarningGiven
from kilroy_engine.execution.lane import Lane
from kilroy_engine.execution.preparing.inputs import Inputs
from kilroy_engine.rundir.files.artifacts import LIMIT_BYTES, encoded, keep_artifact
from kilroy_engine.traversal.failure import FailureClass
from kilroy_engine.traversal.outcome import Json, Outcome, Status
from kilroy_engine.traversal.state import RunState, Visit

_ENGINE_KEYS = frozenset({"inputs", "base_sha", "current_node", "previous_node", "previous_outcome", "completed_nodes"})
_ENGINE_PREFIXES = ("graph.", "internal.", "input.")


def small_updates(lane: Lane, visit: Visit, outcome: Outcome) -> Outcome:
    """``outcome`` with context updates of more than 100 KB kept as artifacts."""
    scope = lane.directory.path.relative_to(lane.base.path) / f"{visit.node_id}@{visit.number}"
    try:
        updates = {key: _small(lane, visit.node_id, scope, key, value) for key, value in outcome.context_updates.items()}
    except (TypeError, ValueError, RecursionError) as error:
        return outcome.with_updates(
            status=Status.FAIL,
            context_updates={},
            failure_reason=f"context_updates cannot be saved: {error}",
            failure_class=FailureClass.DETERMINISTIC,
        )
    return outcome.with_updates(context_updates=updates)


def keep_large_inputs(lane: Lane, state: RunState) -> RunState:
    """``state`` with inputs of more than 100 KB kept as artifacts, because no environment variable can hold them. Called before
    a walk begins."""
    inputs = state.context.get("inputs")
    if not isinstance(inputs, dict):
        return state
    small = {key: _small(lane, "", Path("input"), key, value) for key, value in inputs.items()}
    single = {f"input.{key}": value for key, value in small.items()}
    return replace(state, context={**state.context, **single, "inputs": small})


def allowed_updates(lane: Lane, node_id: str, context: Mapping[str, Json], updates: Mapping[str, Json]) -> dict[str, Json]:
    """``updates`` without the engine's own keys. Emits a warning that names the keys whose values would have changed."""
    refused = {key for key in updates if key in _ENGINE_KEYS or key.startswith(_ENGINE_PREFIXES)}
    changed = sorted(key for key in refused if updates[key] != context.get(key))
    if changed:
        message = f"{node_id}: context_updates may not set {', '.join(changed)}: the engine's own keys; ignored"
        lane.emit(WarningGiven(message=message))
    return {key: value for key, value in updates.items() if key not in refused}


def without_secrets(inputs: Inputs, outcome: Outcome) -> Outcome:
    """``outcome`` with the values of the run's secrets masked in every field that people or files get."""
    if not inputs.secrets:
        return outcome
    return outcome.with_updates(
        context_updates={key: inputs.masked_value(value) for key, value in outcome.context_updates.items()},
        notes=inputs.masked(outcome.notes),
        failure_reason=inputs.masked(outcome.failure_reason),
        failure_signature=inputs.masked(outcome.failure_signature),
        verification=inputs.masked_value(outcome.verification),
        details=inputs.masked_value(outcome.details),
        meta={key: inputs.masked_value(value) for key, value in outcome.meta.items()},
    )


def _small(lane: Lane, node_id: str, scope: Path, key: str, value: Json) -> Json:
    """``value``, or the reference to the file that keeps it."""
    if len(encoded(value)) <= LIMIT_BYTES:
        return value
    reference = keep_artifact(lane.base, scope.as_posix(), key, value)
    path = Path(reference.path).relative_to(lane.base.path)
    lane.emit(ArtifactSaved(node_id=node_id, name=key, path=path.as_posix()))
    return reference.as_json()
