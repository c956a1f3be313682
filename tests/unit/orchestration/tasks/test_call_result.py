"""What a call's state and value come to."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import pytest
from prefect.states import Cancelled, Completed, Crashed, Failed, Paused
from pydantic import BaseModel

from kilroy_engine.errors import TransientStageError
from kilroy_engine.orchestration.tasks.call_result import (
    RESULT_LIMIT_BYTES,
    outcome_of_error,
    outcome_of_state,
    outcome_of_value,
)
from kilroy_engine.traversal.failure import classify
from kilroy_engine.traversal.outcome import Outcome, Status


class Report(BaseModel):
    rows: int


@dataclasses.dataclass
class Place:
    path: Path


def outcome_of(value: Any, stage_dir: Path) -> Outcome:
    return outcome_of_value(value, what="task m:t", node_id="load", stage_dir=stage_dir)


@pytest.mark.parametrize(
    ("value", "updates"),
    [
        ({"rows": 3, "by": {"day": [1]}}, {"rows": 3, "by": {"day": [1]}}),
        (Report(rows=3), {"rows": 3}),
        (Place(Path("/x")), {"path": "/x"}),
        ("text", {"load.result": "text"}),
        (0, {"load.result": 0}),
        ([1, 2], {"load.result": [1, 2]}),
        ((Report(rows=1),), {"load.result": [{"rows": 1}]}),
        (math.nan, {"load.result": None}),
        ({}, {}),
        (None, {}),
    ],
)
def test_a_value_becomes_context(value: Any, updates: dict[str, Any], tmp_path: Path) -> None:
    """Fields of a mapping, model or dataclass are updates of their own; any other value is ``<node>.result``."""
    outcome = outcome_of(value, tmp_path)

    assert outcome.status == Status.SUCCESS
    assert outcome.context_updates == updates


def test_an_outcome_is_taken_as_it_is(tmp_path: Path) -> None:
    """That is how a task chooses an edge."""
    wanted = Outcome("partial_success", preferred_label="ship")

    assert outcome_of(wanted, tmp_path) is wanted


def test_a_value_that_is_no_json_is_named_and_left_out(tmp_path: Path) -> None:
    """The stage has succeeded; its notes say what is missing."""
    outcome = outcome_of({"handle": object()}, tmp_path)

    assert (outcome.status, dict(outcome.context_updates)) == (Status.SUCCESS, {})
    assert "its result, a dict, is not kept: it is no JSON" in outcome.notes
    assert list(tmp_path.iterdir()) == []


def test_a_large_value_is_in_a_file(tmp_path: Path) -> None:
    """The context, which is saved after every stage, gets none of it."""
    value = "x" * RESULT_LIMIT_BYTES
    outcome = outcome_of(value, tmp_path)

    assert dict(outcome.context_updates) == {}
    assert f"too large for the context ({RESULT_LIMIT_BYTES + 2} bytes" in outcome.notes
    assert json.loads((tmp_path / "result.json").read_text()) == value


@pytest.mark.parametrize(
    ("state", "status", "kind", "reason"),
    [
        (Completed(data=None), "success", "", ""),
        (Failed(message="rejected"), "fail", "deterministic", "flow m:f failed: rejected"),
        (Failed(message="rejected", data=4), "fail", "deterministic", "flow m:f failed: rejected"),
        (Failed(name="TimedOut", message="exceeded timeout"), "fail", "transient_infra", "flow m:f failed: exceeded timeout"),
        (Cancelled(message="enough"), "fail", "canceled", "flow m:f was canceled: enough"),
        (Crashed(message="out of memory"), "fail", "transient_infra", "flow m:f crashed: out of memory"),
        (Paused(), "fail", "deterministic", "flow m:f ended as Paused: no message, state Paused"),
    ],
)
def test_a_state_keeps_its_type(state: Any, status: str, kind: str, reason: str, tmp_path: Path) -> None:
    """Failed and Crashed are failures, a crash one that may pass; Cancelled is a failure that nobody tries again."""
    outcome = outcome_of_state(state, what="flow m:f", node_id="load", stage_dir=tmp_path)

    assert (outcome.status, classify(outcome), outcome.failure_reason) == (status, kind, reason)


def test_a_result_that_cannot_be_reached_is_named(tmp_path: Path) -> None:
    """A deployment's flow run that did not persist its result has completed all the same."""
    outcome = outcome_of_state(Completed(), what="deployment f/d", node_id="load", stage_dir=tmp_path)

    assert outcome.status == Status.SUCCESS
    assert "its result cannot be read here (MissingResult): persist_result=True" in outcome.notes


@pytest.mark.parametrize(
    ("error", "kind", "reason"),
    [
        (ValueError("no luck"), "deterministic", "ValueError: no luck"),
        (KeyError("rows"), "deterministic", "KeyError: 'rows'"),
        (ConnectionError("connection refused"), "transient_infra", "ConnectionError: connection refused"),
        (TransientStageError("the mirror is busy"), "transient_infra", "the mirror is busy"),
        (RuntimeError(), "deterministic", "RuntimeError"),
    ],
)
def test_an_exception_is_a_failure_with_its_traceback(error: Exception, kind: str, reason: str, tmp_path: Path) -> None:
    """Its class follows the usual rules, an error of the engine's says it itself."""
    outcome = outcome_of_error(error, tmp_path)

    assert (outcome.status, classify(outcome), outcome.failure_reason) == ("fail", kind, reason)
    assert type(error).__name__ in (tmp_path / "panic.txt").read_text()
