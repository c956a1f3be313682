"""The rule that decides how a start ended."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from kilroy_engine.rundir.ending.which_end_wins import Evidence, Observed, which_end_wins
from kilroy_engine.rundir.files.records import CancelRequest, Conclusion, FinalOutcome
from kilroy_engine.rundir.ownership.ownership import Owner
from kilroy_engine.traversal.outcome import FinalStatus

AT = datetime(2026, 1, 2, tzinfo=UTC)
SUCCESS, FAIL, CANCELED = FinalStatus.SUCCESS, FinalStatus.FAIL, FinalStatus.CANCELED


def final(start: int, status: FinalStatus = SUCCESS) -> FinalOutcome:
    return FinalOutcome(timestamp=AT, status=status, run_id="r1", final_git_commit_sha="f1na1", start=start)


def cancel(start: int = 2) -> CancelRequest:
    return CancelRequest(source="by kilroy stop", at=AT, start=start)


def staged(status: FinalStatus, reason: str = "", start: int = 2) -> Conclusion:
    return Conclusion(status=status, reason=reason, sha="c0ffee", start=start)


DEADLINE = "canceled: run deadline of 30s"


@pytest.mark.parametrize(
    ("evidence", "status", "reason"),
    [
        pytest.param(
            Evidence(final=final(2), cancel=cancel(), observed=Observed(FAIL)),
            SUCCESS,
            "",
            id="a final.json of this start stands",
        ),
        pytest.param(Evidence(final=final(1), conclusion=staged(FAIL, "x")), FAIL, "x", id="one of an earlier start does not"),
        pytest.param(
            Evidence(cancel=cancel(), conclusion=staged(SUCCESS)),
            CANCELED,
            "canceled: by kilroy stop",
            id="cancel beats conclusion",
        ),
        pytest.param(
            Evidence(cancel=cancel(1), conclusion=staged(SUCCESS)), SUCCESS, "", id="an earlier start's cancel does not"
        ),
        pytest.param(
            Evidence(observed=Observed(CANCELED), conclusion=staged(SUCCESS)),
            CANCELED,
            "canceled: in the Prefect UI or API",
            id="Prefect's cancel",
        ),
        pytest.param(
            Evidence(observed=Observed(CANCELED), cancel=cancel()),
            CANCELED,
            "canceled: by kilroy stop",
            id="who asked is known",
        ),
        pytest.param(
            Evidence(observed=Observed(CANCELED), conclusion=staged(CANCELED, DEADLINE)),
            CANCELED,
            DEADLINE,
            id="deadline keeps its words",
        ),
        pytest.param(Evidence(observed=Observed(CANCELED, DEADLINE)), CANCELED, DEADLINE, id="canceled with the run around it"),
        pytest.param(
            Evidence(observed=Observed(FAIL), conclusion=staged(SUCCESS)), SUCCESS, "", id="conclusion beats Prefect's state"
        ),
        pytest.param(
            Evidence(observed=Observed(FAIL, "crashed: out of memory"), conclusion=staged(FAIL, "exit status 3")),
            FAIL,
            "exit status 3",
            id="crash after the conclusion",
        ),
        pytest.param(
            Evidence(observed=Observed(SUCCESS)), FAIL, "the flow ended without a conclusion", id="Completed without conclusion"
        ),
        pytest.param(
            Evidence(observed=Observed(FAIL, "crashed: out of memory")), FAIL, "crashed: out of memory", id="Prefect's reason"
        ),
        pytest.param(
            Evidence(observed=Observed(FAIL), conclusion=staged(SUCCESS, start=1)),
            FAIL,
            "the flow ended without a conclusion",
            id="an earlier conclusion",
        ),
        pytest.param(Evidence(), FAIL, "crashed: the flow process ended without a conclusion", id="nothing known"),
    ],
)
def test_the_first_known_thing_in_the_order_decides(evidence: Evidence, status: FinalStatus, reason: str) -> None:
    """final.json of this start, then cancel, then the staged conclusion, then Prefect's state (which end wins)."""
    end = which_end_wins(evidence, run_id="r1", owner=Owner("flow", 2), at=AT)
    assert (end.status, end.failure_reason, end.start) == (status, reason, 2)


def test_the_last_known_commit_is_kept() -> None:
    """The conclusion's commit, else the checkpoint's."""
    owner = Owner("flow", 2)
    known = which_end_wins(Evidence(conclusion=staged(SUCCESS), last_sha="0ld"), run_id="r1", owner=owner, at=AT)
    assert known.final_git_commit_sha == "c0ffee"
    crashed = which_end_wins(Evidence(last_sha="0ld"), run_id="r1", owner=owner, at=AT)
    assert crashed.final_git_commit_sha == "0ld"
