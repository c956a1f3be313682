"""Which end wins: from what is known about a start of a run to the one way it ended. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from kilroy_engine.rundir.files.records import CancelRequest, Conclusion, FinalOutcome
from kilroy_engine.rundir.ownership.ownership import Owner
from kilroy_engine.traversal.outcome import FinalStatus

CANCELED_BY_PREFECT = "canceled: in the Prefect UI or API"
CRASHED = "crashed: the flow process ended without a conclusion"
NO_CONCLUSION = "the flow ended without a conclusion"


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is known when a start is to be ended. Records of other starts are ignored.

    ``observed`` is what the orchestrator says about the flow run, None while it has not ended or nobody knows; ``message``
    is its reason. ``last_sha`` is the last commit known from the checkpoint.
    """

    final: FinalOutcome | None = None
    cancel: CancelRequest | None = None
    conclusion: Conclusion | None = None
    observed: FinalStatus | None = None
    message: str = ""
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
    status, reason = _status_and_reason(conclusion, cancel, evidence)
    return FinalOutcome(
        timestamp=at,
        status=status,
        run_id=run_id,
        final_git_commit_sha=(conclusion.sha if conclusion else "") or evidence.last_sha,
        failure_reason=reason,
        flow_run_id=owner.flow_run_id,
        start=owner.start,
    )


def _status_and_reason(
    conclusion: Conclusion | None, cancel: CancelRequest | None, evidence: Evidence
) -> tuple[FinalStatus, str]:
    if cancel is not None:
        return FinalStatus.CANCELED, f"canceled: {cancel.source}"
    if evidence.observed is FinalStatus.CANCELED:
        # A deadline of the run stages its own words; Prefect only knows that the run was canceled.
        staged = conclusion.reason if conclusion and conclusion.status is FinalStatus.CANCELED else ""
        told = evidence.message if evidence.message.startswith("canceled:") else ""
        return FinalStatus.CANCELED, staged or told or CANCELED_BY_PREFECT
    if conclusion is not None:
        return conclusion.status, conclusion.reason
    match evidence.observed:
        case FinalStatus.SUCCESS:
            return FinalStatus.FAIL, NO_CONCLUSION
        case FinalStatus.FAIL:
            return FinalStatus.FAIL, evidence.message or NO_CONCLUSION
        case None:
            return FinalStatus.FAIL, evidence.message or CRASHED
