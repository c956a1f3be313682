"""Requests to stop: who asks decides, the sentence beside it is for people."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kilroy_engine.errors import RunCanceled, StopKind
from kilroy_engine.rundir.files.layout import RunDirectory
from kilroy_engine.rundir.files.records import CancelRequest, Conclusion
from kilroy_engine.stopping import Cancellation, Stop


def test_the_first_request_stands() -> None:
    """Whoever asks later is told that a stop was asked for before, and changes nothing."""
    cancellation = Cancellation()

    assert cancellation.request(StopKind.PERSON, "by kilroy stop")
    assert not cancellation.request(StopKind.STALL, "stalled")
    assert cancellation.stop == Stop(StopKind.PERSON, "by kilroy stop")
    with pytest.raises(RunCanceled, match="canceled: by kilroy stop") as canceled:
        cancellation.raise_if_requested()
    assert canceled.value.kind is StopKind.PERSON


def test_a_stall_and_a_spent_budget_are_failures() -> None:
    """Their reason is a sentence of their own; every other stop is a cancel and says who asked."""
    for kind in StopKind:
        stop = Stop(kind, "told")
        failed = kind in {StopKind.STALL, StopKind.BUDGET}
        assert (stop.failed, stop.reason) == ((True, "told") if failed else (False, "canceled: told"))


def test_a_part_stops_with_the_whole_and_also_alone() -> None:
    """A linked cancellation follows the one that it came from, before and after; the other way nothing is handed on."""
    whole = Cancellation()
    before, alone = whole.linked(), whole.linked()
    alone.request(StopKind.ANSWERED, "enough")
    assert not whole.requested
    whole.request(StopKind.DEADLINE, "run deadline of 30s")

    assert before.stop == whole.linked().stop == Stop(StopKind.DEADLINE, "run deadline of 30s")
    assert alone.stop == Stop(StopKind.ANSWERED, "enough")


@pytest.mark.parametrize("kind", [None, "a kind of a later version"])
def test_a_request_of_another_program_is_a_persons(tmp_path: Path, kind: str | None) -> None:
    """Any words do, and a kind that this version does not know is no damage."""
    told = {"source": "because I say so", "at": "2026-01-01T00:00:00Z", **({"kind": kind} if kind else {})}
    run = RunDirectory(tmp_path)
    run.cancel_request.write_text(json.dumps(told))

    found = CancelRequest.read(run)

    assert (found.kind, found.source) == (StopKind.PERSON, "because I say so")


def test_a_conclusion_of_the_version_before_says_nothing_of_a_stop(tmp_path: Path) -> None:
    """The key is new; without it the conclusion reads as before."""
    run = RunDirectory(tmp_path)
    run.conclusion.write_text('{"status":"canceled","reason":"canceled: by kilroy stop","sha":"","start":1}')

    assert Conclusion.read(run).stop is None
