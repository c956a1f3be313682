"""The steps that turn a handler's answer into a visit's outcome, in order.

The steps of ``ANSWERED`` turn each answer into the outcome of an attempt. Then the attempt is judged and its work committed
(:mod:`kilroy_engine.execution.visiting.stage_visit`). The steps of ``SETTLED`` turn the last attempt's outcome into the
visit's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from kilroy_engine.events import OutputContractViolated, WarningGiven
from kilroy_engine.execution.lane import Lane
from kilroy_engine.execution.visiting.failure_report import report_failure
from kilroy_engine.execution.visiting.loop_files import with_loop_files
from kilroy_engine.execution.visiting.updates import allowed_updates, small_updates, without_secrets
from kilroy_engine.graph.model import Node
from kilroy_engine.processes.output_contract import missing_outputs
from kilroy_engine.processes.stage_status import with_stage_status
from kilroy_engine.rundir.stages.stage_files import read_status
from kilroy_engine.traversal.failure import FailureClass
from kilroy_engine.traversal.outcome import Outcome, Status
from kilroy_engine.traversal.state import RunState, Visit


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt at a visit; ``number`` counts from 1. ``state`` is the state that the visit began in."""

    lane: Lane
    visit: Visit
    node: Node
    state: RunState
    stage_dir: Path
    number: int


Step: TypeAlias = Callable[[Attempt, Outcome], Outcome]


def stages_own_verdict(attempt: Attempt, outcome: Outcome) -> Outcome:
    """Replaces the outcome by the ``status.json`` that the stage has left (Kilroy: status contract)."""
    found = read_status(attempt.stage_dir)
    if found.problem:
        attempt.lane.emit(WarningGiven(message=f"{attempt.node.id}: its status.json is ignored: {found.problem}"))
    return with_stage_status(outcome, found.outcome)


def engines_keys_kept(attempt: Attempt, outcome: Outcome) -> Outcome:
    """Drops updates of context keys that the engine owns."""
    allowed = allowed_updates(attempt.lane, attempt.node.id, attempt.state.context, outcome.context_updates)
    return outcome.with_updates(context_updates=allowed)


def secrets_masked(attempt: Attempt, outcome: Outcome) -> Outcome:
    """Masks secrets before the outcome enters context, files and events."""
    return without_secrets(attempt.lane.inputs, outcome)


def large_values_kept(attempt: Attempt, outcome: Outcome) -> Outcome:
    """Keeps large context values in files (Spec 5.5)."""
    return small_updates(attempt.lane, attempt.visit, outcome)


def promises_kept(attempt: Attempt, outcome: Outcome) -> Outcome:
    """Turns a success into a failure if a file of the node's ``outputs`` is missing (Kilroy: output contract)."""
    lane, node = attempt.lane, attempt.node
    missing = missing_outputs(node, lane.workspace.path) if outcome.succeeded and not lane.settings.simulate else ()
    if not missing:
        return outcome
    reason = f"output contract: missing {', '.join(missing)}"
    lane.emit(OutputContractViolated(node_id=node.id, attempt=attempt.number, failure_reason=reason))
    # The class is set here: the reason holds file names, whose words say nothing about it. A failure chooses no edge.
    return outcome.with_updates(
        status=Status.FAIL,
        failure_reason=reason,
        failure_class=FailureClass.DETERMINISTIC,
        preferred_label="",
        suggested_next_ids=(),
        details=f"Not found in {lane.workspace.path}, where the node promises to leave it: {', '.join(missing)}",
    )


def stops_told(attempt: Attempt, outcome: Outcome) -> Outcome:
    """Turns the outcome into a canceled failure if a stop was requested during the attempt."""
    cancellation = attempt.lane.cancellation
    if not cancellation.requested:
        return outcome
    return outcome.with_updates(status=Status.FAIL, failure_reason=cancellation.reason, failure_class=FailureClass.CANCELED)


def failure_reported(attempt: Attempt, outcome: Outcome) -> Outcome:
    """Writes the dossier of a failure and adds its context keys (Kilroy: failure dossier)."""
    return report_failure(attempt.lane, attempt.node, outcome) if outcome.failed else outcome


def loop_files_seen(attempt: Attempt, outcome: Outcome) -> Outcome:
    """Adds whether a file in the work folder ends a loop."""
    lane = attempt.lane
    return with_loop_files(lane.graph, attempt.node, outcome, lane.workspace.path, simulate=lane.settings.simulate)


ANSWERED: tuple[Step, ...] = (
    stages_own_verdict,
    engines_keys_kept,
    secrets_masked,
    large_values_kept,
    promises_kept,
    stops_told,
)
SETTLED: tuple[Step, ...] = (failure_reported, loop_files_seen)


def passed(steps: tuple[Step, ...], attempt: Attempt, outcome: Outcome) -> Outcome:
    """``outcome`` after all ``steps``, in order."""
    for step in steps:
        outcome = step(attempt, outcome)
    return outcome
