"""What each mode of fidelity tells an agent, and that it keeps to its budget."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kilroy_engine.graph.vocabulary import Fidelity
from kilroy_engine.handlers.base import StageRequest
from kilroy_engine.handlers.preamble import preamble
from kilroy_engine.traversal.artifact import ArtifactReference
from kilroy_engine.traversal.fidelity import Carried
from kilroy_engine.traversal.outcome import Json, Outcome, failure, success

Requests = Callable[..., StageRequest]
TOKENS = {Fidelity.SUMMARY_LOW: 600, Fidelity.SUMMARY_MEDIUM: 1500, Fidelity.SUMMARY_HIGH: 3000}
"""Spec 5.4: approximate budgets in tokens; four bytes are one."""

OUTCOMES = {
    "start": success("start"),
    "plan": success("wrote plan.md", last_response="I would begin with the parser."),
    "test": failure("exit status 1", **{"tool.output": "2 failed, 7 passed\n"}),
}
CONTEXT: dict[str, Json] = {
    "graph.goal": "Ship it",
    "graph.rankdir": "LR",
    "internal.retry_count.test": 1,
    "completed_nodes": ["start", "plan", "test", "test"],
    "outcome": "fail",
    "tool.output": "2 failed, 7 passed\n",
    "tool_stdout": "2 failed, 7 passed",
    "input.topic": "bees",
    "inputs": {"topic": "bees"},
    "verdict": "needs\nwork",
}


def told(request_for: Requests, mode: str, **changes: object) -> str:
    found = {"context": CONTEXT, "outcomes": OUTCOMES, **changes}
    return preamble(request_for("a [prompt=Fix]", carried=Carried(Fidelity(mode)), **found))


def test_truncate_tells_run_and_goal(request_for: Requests) -> None:
    """Spec 5.4: nothing else."""
    assert told(request_for, "truncate") == "THE RUN SO FAR\nRun: R1\nGoal: Ship it"


def test_compact_lists_stages_with_outcomes_and_values(request_for: Requests) -> None:
    """Spec 5.4; the pipeline's own values come first, the engine's bookkeeping is left out."""
    assert told(request_for, "compact").splitlines() == [
        "THE RUN SO FAR",
        "Run: R1",
        "Goal: Ship it",
        "Stages, oldest first:",
        "- start: success",
        "- plan: success",
        "- test (2 visits): fail; exit status 1",
        "Values:",
        "- verdict: needs work",
        "- input.topic: bees",
        "- tool.output: 2 failed, 7 passed",
    ]


def test_low_counts_and_tells_the_latest_stages_only(request_for: Requests) -> None:
    """Spec 5.4: brief, with counts; no values."""
    outcomes = {f"n{i}": success() for i in range(6)}
    context = {"completed_nodes": list(outcomes), "x": 1}
    assert told(request_for, "summary:low", context=context, outcomes=outcomes).splitlines()[2:] == [
        "6 visits of 6 nodes; last outcomes: 6 success.",
        "Stages, oldest first:",
        "- (3 earlier stages)",
        "- n3: success",
        "- n4: success",
        "- n5: success",
    ]


def test_medium_adds_notes_and_values_and_high_what_was_said(request_for: Requests) -> None:
    """Spec 5.4: recent outcomes and active values; then the summaries of tool calls."""
    medium, high = told(request_for, "summary:medium"), told(request_for, "summary:high")

    assert "4 visits of 3 nodes; last outcomes: 2 success, 1 fail." in medium
    assert "- plan: success; wrote plan.md\n- test (2 visits): fail; exit status 1\nValues:\n- verdict: needs work" in medium
    assert "said:" not in medium
    assert "- plan: success; wrote plan.md\n  said: I would begin with the parser.\n- test" in high
    assert "exit status 1\n  said: 2 failed, 7 passed\n" in high


def test_a_large_value_is_told_by_its_file(request_for: Requests) -> None:
    """So that the agent can read it."""
    reference = ArtifactReference("plan@1.report", "report", "/runs/R1/artifacts/plan@1.report.txt", 250_000, "sha256:00")
    text = told(request_for, "compact", context={"report": reference.as_json()})
    assert "- report: 250000 bytes, to be read in /runs/R1/artifacts/plan@1.report.txt" in text


def test_before_the_first_stage_there_is_nothing_but_run_and_goal(request_for: Requests) -> None:
    """No empty lists."""
    for mode in Fidelity:
        assert told(request_for, mode, context={"graph.goal": "g"}, outcomes={}) == "THE RUN SO FAR\nRun: R1\nGoal: g"


texts = st.text(max_size=3000)
outcomes = st.builds(
    Outcome,
    status=st.sampled_from(("success", "fail", "approved")),
    notes=texts,
    failure_reason=texts,
    context_updates=st.fixed_dictionaries({}, optional={"tool.output": texts, "last_response": texts}),
)


@given(
    found=st.lists(outcomes, max_size=60),
    values=st.dictionaries(st.text(max_size=200), texts | st.lists(st.integers(), max_size=50), max_size=40),
    mode=st.sampled_from(sorted(TOKENS)),
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large])
def test_a_summary_keeps_to_its_budget(
    request_for: Requests, found: list[Outcome], values: dict[str, Json], mode: Fidelity
) -> None:
    """Spec 5.4's tokens, whatever the stages said; the same state is told in the same words."""
    by_node = {f"n{i}": outcome for i, outcome in enumerate(found)}
    context = {**values, "graph.goal": "", "completed_nodes": list(by_node)}
    text = told(request_for, mode, context=context, outcomes=by_node)

    assert len(text.encode(errors="replace")) <= TOKENS[mode] * 4 + len("THE RUN SO FAR\nRun: R1\n")
    assert text == told(request_for, mode, context=context, outcomes=by_node)


@pytest.mark.parametrize("mode", ["compact", "summary:high"])
def test_what_does_not_fit_is_counted(request_for: Requests, mode: str) -> None:
    """An agent knows that there is more."""
    outcomes = {f"node_{i:03}": failure("x" * 500) for i in range(100)}
    context: dict[str, Json] = {"completed_nodes": list(outcomes), **{f"key_{i:03}": "y" * 900 for i in range(100)}}
    lines = told(request_for, mode, context=context, outcomes=outcomes).splitlines()

    stages = [line for line in lines if line.startswith("- node_")]
    shown = [line for line in lines if line.startswith("- key_")]
    assert 0 < len(stages) < 100
    assert 0 < len(shown) < 100
    assert stages[-1].startswith("- node_099")
    assert f"- ({100 - len(stages)} earlier stages)" in lines
    assert lines[-1] == f"- ({100 - len(shown)} more values)"
