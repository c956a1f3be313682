"""Which end wins: decides from all that is known about a start how the start ended. Pure."""

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
    """What was seen of a start's end from outside: by the orchestrator, by the run around a child pipeline, or by the
    reconciler.

    - ``status``: None while the start has not ended or nobody knows.
    - ``reason``: the text of ``failure_reason``, empty where it is not known.
    - ``crashed``: the start's process ended without a conclusion.
    """

    status: FinalStatus | None = None
    reason: str = ""
    crashed: bool = False


UNSEEN = Observed()
"""Nothing was seen from outside."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """All that is known when a start is to be ended. :func:`which_end_wins` ignores records of other starts.

    ``last_sha`` is the commit in the latest checkpoint.
    """

    final: FinalOutcome | None = None
    cancel: CancelRequest | None = None
    conclusion: Conclusion | None = None
    observed: Observed = UNSEEN
    last_sha: str = ""


def which_end_wins(evidence: Evidence, *, run_id: str, owner: Owner, at: datetime) -> FinalOutcome:
    """The end of the start of ``owner``. The first of these decides:

    - the ``final.json`` of this start
    - a cancel, requested in the run directory or seen by the orchestrator
    - the conclusion of this start
    - the state that the orchestrator saw

    A flow that completed without a conclusion has failed.
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
    """Which of a cancel, the conclusion and the observation decides, as an :class:`Observed`."""
    if cancel is not None:
        return Observed(FinalStatus.CANCELED, f"canceled: {cancel.source}")
    if observed.status is FinalStatus.CANCELED:
        # The run's deadline writes its reason into the conclusion; Prefect only knows that the run was canceled.
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
