"""Which end wins: from what is known about a start of a run to the one way it ended. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime

from kilroy_engine.rundir.files.records import CancelRequest, Conclusion, FinalOutcome
from kilroy_engine.rundir.ownership.ownership import Owner
from kilroy_engine.traversal.outcome import FinalStatus

CANCELED_BY_PREFECT = "canceled: in the Prefect UI or API"
CRASHED = "crashed: the flow process ended without a conclusion"
NO_CONCLUSION = "the flow ended without a conclusion"


@dataclass(frozen=True, slots=True)
class Observed:
    """What somebody outside has seen of a start's end: the orchestrator, the run around a child pipeline, a reconciler.

    ``status`` is None while it has not ended or nobody knows. ``reason`` is the text of ``failure_reason``, empty where it is
    not known. ``crashed`` says that the start's process ended without a word.
    """

    status: FinalStatus | None = None
    reason: str = ""
    crashed: bool = False


UNSEEN = Observed()
"""Nobody outside has seen anything."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is known when a start is to be ended. Records of other starts are ignored.

    ``last_sha`` is the last commit known from the checkpoint.
    """

    final: FinalOutcome | None = None
    cancel: CancelRequest | None = None
    conclusion: Conclusion | None = None
    observed: Observed = UNSEEN
    last_sha: str = ""


def which_end_wins(evidence: Evidence, *, run_id: str, owner: Owner, at: datetime) -> FinalOutcome:
    """The end of ``owner``'s start.

    In this order: the ``final.json`` of this start; a cancel, seen by the orchestrator or requested on disk; the staged
    conclusion; the orchestrator's state. A flow that completed without a conclusion has failed.
    """
    final, conclusion, cancel = evidence.final, evidence.conclusion, evidence.cancel
    if final is not None and final.start == owner.start:
        return final
    if conclusion is not None and conclusion.start != owner.start:
        conclusion = None
    if cancel is not None and cancel.start != owner.start:
        cancel = None
    end = _end(conclusion, cancel, evidence.observed)
    return FinalOutcome(
        timestamp=at,
        status=end.status or FinalStatus.FAIL,
        run_id=run_id,
        final_git_commit_sha=(conclusion.sha if conclusion else "") or evidence.last_sha,
        failure_reason=end.reason,
        crashed=end.crashed,
        flow_run_id=owner.flow_run_id,
        start=owner.start,
    )


def _end(conclusion: Conclusion | None, cancel: CancelRequest | None, observed: Observed) -> Observed:
    """The end that stands, told as an observation."""
    if cancel is not None:
        return Observed(FinalStatus.CANCELED, f"canceled: {cancel.source}")
    if observed.status is FinalStatus.CANCELED:
        # A deadline of the run stages its own words; Prefect only knows that the run was canceled.
        staged = conclusion.reason if conclusion and conclusion.status is FinalStatus.CANCELED else ""
        return Observed(FinalStatus.CANCELED, staged or observed.reason or CANCELED_BY_PREFECT)
    if conclusion is not None:
        return Observed(conclusion.status, conclusion.reason)
    match observed.status:
        case FinalStatus.SUCCESS:
            return Observed(FinalStatus.FAIL, NO_CONCLUSION)
        case FinalStatus.FAIL:
            return replace(observed, reason=observed.reason or NO_CONCLUSION)
        case None:
            return Observed(FinalStatus.FAIL, observed.reason or CRASHED, crashed=observed.crashed or not observed.reason)
