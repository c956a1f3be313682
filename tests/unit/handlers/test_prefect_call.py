"""What a call node asks the engine for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from kilroy_engine.graph.callees import DeploymentCallee, ObjectCallee
from kilroy_engine.handlers.base import CallPrefect, StageRequest
from kilroy_engine.handlers.call_node import call_prefect
from kilroy_engine.handlers.registry import HandlerRegistry
from kilroy_engine.rundir.files.artifacts import keep_artifact
from kilroy_engine.rundir.files.layout import RunDirectory
from kilroy_engine.settings.table import RunSettings
from kilroy_engine.traversal.outcome import Outcome

Requests = Callable[..., StageRequest]


def test_a_call_names_its_target_its_arguments_and_its_limit(request_for: Requests) -> None:
    """Attributes ``param.<name>`` by name; the attempt's time limit goes with the call."""
    request = request_for('a [type="prefect.task", ref="etl:load", param.n=3, param.source="db"]', timeout_s=7.0)

    assert HandlerRegistry().resolve(request.node)(request) == CallPrefect(
        "prefect.task", ObjectCallee("etl", "load"), {"n": "3", "source": "db"}, 7.0
    )


def test_a_deployment_is_called_by_its_name(request_for: Requests) -> None:
    """In Prefect's notation."""
    call = call_prefect(request_for('a [type="prefect.flow", ref="etl/nightly"]'))

    assert isinstance(call, CallPrefect)
    assert call.target == DeploymentCallee("etl", "nightly")


def test_context_values_are_handed_over_as_they_are(request_for: Requests) -> None:
    """``context:<key>`` is the value itself, a number stays one; ``context:*`` is everything."""
    context = {"rows": 12, "tool.output": "done\n"}
    node = 'a [type="prefect.task", ref="m:t", param.n="context:rows", param.out="context: tool.output", param.all="context:*"]'
    call = call_prefect(request_for(node, context=context))

    assert isinstance(call, CallPrefect)
    assert call.parameters == {"n": 12, "out": "done\n", "all": context}


def test_a_large_context_value_is_handed_over_itself(tmp_path: Path, request_for: Requests) -> None:
    """A callee takes the value, not the engine's reference to the file that it is kept in."""
    rows = list(range(1000))
    kept = keep_artifact(RunDirectory(tmp_path), "plan@1", "rows", rows)  # type: ignore[arg-type]
    node = 'a [type="prefect.task", ref="m:t", param.rows="context:rows"]'
    call = call_prefect(request_for(node, context={"rows": kept.as_json()}))

    assert isinstance(call, CallPrefect)
    assert call.parameters == {"rows": rows}


@pytest.mark.parametrize(
    ("key", "hint"), [("tool.outputt", "did you mean 'tool.output'?"), ("zebra", "no stage before it has set it")]
)
def test_a_missing_context_value_is_a_failure_that_says_which(request_for: Requests, key: str, hint: str) -> None:
    """Never an empty text in its place, and no further attempt: it would not be there then either."""
    outcome = call_prefect(
        request_for(f'a [type="prefect.task", ref="m:t", param.n="context:{key}"]', context={"tool.output": "x"})
    )

    assert isinstance(outcome, Outcome)
    assert outcome.failure_reason == f"parameter n takes the context value '{key}', and there is none; {hint}"
    assert outcome.failure_class == "deterministic"


def test_a_simulated_run_calls_nothing(request_for: Requests) -> None:
    """It says so in its notes."""
    outcome = call_prefect(
        request_for('a [type="prefect.flow", ref="etl/nightly", param.n="context:x"]', settings=RunSettings(simulate=True))
    )

    assert outcome == Outcome("success", notes="simulated: etl/nightly was not called")
