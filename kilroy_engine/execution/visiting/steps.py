"""The steps that an outcome passes between a handler's answer and the walk, in their order.

``ANSWERED`` makes of each answer the outcome of an attempt, ``SETTLED`` of the last attempt's that of the visit. Between the
two the attempt is judged and its work committed (:mod:`kilroy_engine.execution.visiting.stage_visit`).
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
    """One attempt at a visit, ``number`` from 1. ``state`` is the one that the visit began in."""

    lane: Lane
    visit: Visit
    node: Node
    state: RunState
    stage_dir: Path
    number: int


Step: TypeAlias = Callable[[Attempt, Outcome], Outcome]


def stages_own_verdict(attempt: Attempt, outcome: Outcome) -> Outcome:
    """A ``status.json`` that the stage has left takes the outcome's place (Kilroy: status contract)."""
    found = read_status(attempt.stage_dir)
    if found.problem:
        attempt.lane.emit(WarningGiven(message=f"{attempt.node.id}: its status.json is ignored: {found.problem}"))
    return with_stage_status(outcome, found.outcome)


def engines_keys_kept(attempt: Attempt, outcome: Outcome) -> Outcome:
    """No stage sets what the engine owns in the context."""
    allowed = allowed_updates(attempt.lane, attempt.node.id, attempt.state.context, outcome.context_updates)
    return outcome.with_updates(context_updates=allowed)


def secrets_masked(attempt: Attempt, outcome: Outcome) -> Outcome:
    """No secret goes on into context, files and events."""
    return without_secrets(attempt.lane.inputs, outcome)


def large_values_kept(attempt: Attempt, outcome: Outcome) -> Outcome:
    """A large value of the context becomes a file (Spec 5.5)."""
    return small_updates(attempt.lane, attempt.visit, outcome)


def promises_kept(attempt: Attempt, outcome: Outcome) -> Outcome:
    """A success that lacks a file that the node promises is a failure (Kilroy: output contract)."""
    lane, node = attempt.lane, attempt.node
    missing = missing_outputs(node, lane.workspace.path) if outcome.succeeded and not lane.settings.simulate else ()
    if not missing:
        return outcome
    reason = f"output contract: missing {', '.join(missing)}"
    lane.emit(OutputContractViolated(node_id=node.id, attempt=attempt.number, failure_reason=reason))
    # The class is not left to the words of the reason, which are names of files. Wishes of a success go with it.
    return outcome.with_updates(
        status=Status.FAIL,
        failure_reason=reason,
        failure_class=FailureClass.DETERMINISTIC,
        preferred_label="",
        suggested_next_ids=(),
        details=f"Not found in {lane.workspace.path}, where the node promises to leave it: {', '.join(missing)}",
    )


def stops_told(attempt: Attempt, outcome: Outcome) -> Outcome:
    """What a stop came into is no outcome of the stage's own."""
    cancellation = attempt.lane.cancellation
    if not cancellation.requested:
        return outcome
    return outcome.with_updates(status=Status.FAIL, failure_reason=cancellation.reason, failure_class=FailureClass.CANCELED)


def failure_reported(attempt: Attempt, outcome: Outcome) -> Outcome:
    """A failure has a dossier, and the context says where (Kilroy: failure dossier)."""
    return report_failure(attempt.lane, attempt.node, outcome) if outcome.failed else outcome


def loop_files_seen(attempt: Attempt, outcome: Outcome) -> Outcome:
    """What the work folder says about the end of a loop goes on with the outcome."""
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
    """``outcome`` after the steps, one after the other."""
    for step in steps:
        outcome = step(attempt, outcome)
    return outcome
