"""Attempts: how many, how far apart, and what an exhausted stage comes to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from scripted_walk import Stages, edge, failure, graph_of, node, outcome_of, success

from kilroy_engine.errors import PermanentStageError
from kilroy_engine.graph.model import Graph, Node
from kilroy_engine.traversal.failure import failure_of_exception
from kilroy_engine.traversal.outcome import Outcome, Status
from kilroy_engine.traversal.retry import Again, RetryPolicy, Settled, delay_s, judge, retry_policy

CASES = yaml.safe_load((Path(__file__).parents[2] / "data/conformance/goal_gate_retry.yaml").read_text())


def stage(graph: dict[str, object] | None = None, **values: object) -> tuple[Graph, Node]:
    """A graph with one stage ``a`` between start and a conditional exit."""
    subject = node("a", **values)
    edges = [edge("start", "a"), edge("a", "exit", condition="outcome=success")]
    return graph_of([subject], edges, **(graph or {})), subject


def settled(verdict: Again | Settled) -> Settled:
    assert isinstance(verdict, Settled)
    return verdict


def scripted(word: str) -> Outcome:
    if word == "raise:401":
        return failure_of_exception(PermanentStageError("HTTP 401: not authorized", node="a", attempt=1))
    return outcome_of(word)


@pytest.mark.parametrize("case", CASES["retry"], ids=lambda case: case["name"])
def test_retry_conformance(case: dict[str, Any]) -> None:
    """Every shared case on attempts: status and number of executions."""
    graph, _ = stage(case.get("graph"), **case["node"])
    stages = Stages(graph, {"a": [scripted(word) for word in case["script"]]})
    finish = stages.run()
    assert finish.status == case["want"]["status"]
    assert stages.executions["a"] == case["want"]["executions"]
    assert case["want"].get("failure_reason", "") in finish.reason


@pytest.mark.parametrize("case", CASES["backoff"], ids=lambda case: case["preset"])
def test_backoff_conformance(case: dict[str, Any]) -> None:
    """Every shared case on named policies: the delays, without jitter."""
    graph, subject = stage(retry_policy=case["preset"], max_retries=case["max_attempts"] - 1, retry__backoff__jitter="false")
    policy = retry_policy(graph, subject)
    assert policy.max_attempts == case["max_attempts"]
    delays = [delay_s(policy, "RUN", "a", attempt) * 1000 for attempt in range(1, policy.max_attempts)]
    assert delays == case["delays_ms"]


def test_jitter_repeats_itself() -> None:
    """The jitter is read from the SHA-256 of ``run:node:attempt``; figures worked out from sha256sum by hand."""
    assert [delay_s(RetryPolicy(), "RUN", "a", attempt) for attempt in (1, 2, 3)] == [0.170, 0.215, 0.701]


def test_the_node_outranks_the_graph_and_figures_outrank_a_named_policy() -> None:
    """Backoff: the node's figures, its policy, the graph's figures, its policy, else the standard."""
    graph, subject = stage(
        {"retry__backoff__max_delay_ms": 900, "retry__backoff__initial_delay_ms": 5, "retry_policy": "patient"},
        retry_policy="aggressive",
        retry__backoff__backoff_factor="1.5",
    )
    assert retry_policy(graph, subject) == RetryPolicy(1, 500, 1.5, 60_000, jitter=True)
    graph, subject = stage({"retry__backoff__max_delay_ms": 900, "retry_policy": "patient"}, retry__backoff__initial_delay_ms=7)
    assert retry_policy(graph, subject) == RetryPolicy(1, 7, 3.0, 900, jitter=True)


def test_figures_that_are_none_are_ignored() -> None:
    """A factor of zero, text, or a negative number of retries leaves the next source standing."""
    graph, subject = stage(
        {"default_max_retries": 2},
        max_retries=-1,
        retry__backoff__backoff_factor="0",
        retry__backoff__initial_delay_ms="soon",
        retry_policy="heroic",
    )
    assert retry_policy(graph, subject) == RetryPolicy(max_attempts=3)


def test_a_delay_is_capped_and_never_overflows() -> None:
    """The cap holds for any attempt; without a cap an absurd delay falls back to the standard cap."""
    capped = RetryPolicy(initial_delay_ms=100, max_delay_ms=150, jitter=False)
    assert [delay_s(capped, "r", "a", attempt) for attempt in (1, 2, 5000)] == [0.1, 0.15, 0.15]
    endless = RetryPolicy(initial_delay_ms=100, max_delay_ms=0, jitter=False)
    assert delay_s(endless, "r", "a", 12) == 204.8
    assert delay_s(endless, "r", "a", 5000) == 60


def test_a_tool_failure_is_retried_whatever_its_class_and_keeps_its_reason() -> None:
    """A tool tries again while attempts remain; exhausted, it failed for its own reason (golden 06b)."""
    graph, subject = stage(type="tool", max_retries=1)
    outcome = failure("exit status 1")
    assert judge(graph, subject, outcome, attempt=1) == Again("exit status 1, attempts remaining", "deterministic")
    verdict = settled(judge(graph, subject, outcome, attempt=2))
    assert verdict.reason == "exit status 1, max retries exhausted"
    assert (verdict.outcome.status, verdict.outcome.failure_reason) == ("fail", "exit status 1")
    assert (verdict.outcome.failure_class, verdict.blocked) == ("deterministic", False)


def test_a_canceled_stage_is_never_retried_nor_accepted_in_part() -> None:
    """Class canceled ends a stage at once, tools and RETRY included."""
    for outcome in (failure("canceled: by kilroy stop"), Outcome(Status.RETRY, failure_class="canceled")):
        graph, subject = stage(type="tool", max_retries=5, allow_partial="true")
        verdict = settled(judge(graph, subject, outcome, attempt=1))
        assert (verdict.outcome.status, verdict.blocked) == ("fail", True)
        assert verdict.outcome.failure_class == "canceled"
        assert verdict.reason.endswith("failure_class=canceled not retryable")


@pytest.mark.parametrize(
    ("kind", "again"),
    [
        ("transient_infra", True),
        ("budget_exhausted", True),
        ("compilation_loop", True),
        ("deterministic", False),
        ("structural", False),
    ],
)
def test_other_failures_are_retried_by_class_but_an_agents_verdict_never(kind: str, again: bool) -> None:
    """What the machinery could not do may work next time; what an agent judged it would judge again."""
    graph, subject = stage(max_retries=2)
    outcome = failure("no luck", failure_class=kind)
    assert isinstance(judge(graph, subject, outcome, attempt=1), Again) is again
    verdict = settled(judge(graph, subject, outcome.with_updates(verdict=True), attempt=1))
    assert verdict.blocked
    assert verdict.reason == f"no luck, failure_class={kind} not retryable"


def test_a_retry_request_is_always_granted_and_says_so_when_exhausted() -> None:
    """RETRY is tried again whatever its class, an agent's verdict included; exhausted it becomes FAIL (Spec 3.5)."""
    graph, subject = stage(max_retries=1)
    outcome = Outcome(Status.RETRY, failure_reason="half done", verdict=True)
    assert isinstance(judge(graph, subject, outcome, attempt=1), Again)
    assert settled(judge(graph, subject, outcome, attempt=2)).outcome.failure_reason == "max retries exceeded: half done"
    bare = settled(judge(graph, subject, Outcome(Status.RETRY), attempt=2))
    assert (bare.outcome.status, bare.outcome.failure_reason) == ("fail", "max retries exceeded")


def test_a_transient_failure_that_outlasts_its_retries_says_so() -> None:
    """Retries that were spent are named in the reason; without retries the reason stands alone."""
    outcome = failure("connection reset")
    graph, subject = stage(max_retries=1)
    spent = settled(judge(graph, subject, outcome, attempt=2)).outcome
    assert (spent.failure_reason, spent.failure_class) == ("max retries exceeded: connection reset", "transient_infra")
    graph, subject = stage()
    assert settled(judge(graph, subject, outcome, attempt=1)).outcome.failure_reason == "connection reset"


def test_an_exhausted_stage_may_be_accepted_in_part() -> None:
    """``allow_partial``: exhausted retries become partial_success; the reason and what was found out stay."""
    graph, subject = stage(type="tool", allow_partial="true", max_retries=1)
    outcome = failure("exit status 1", **{"tool.output": "half"}).with_updates(
        preferred_label="Ship", suggested_next_ids=("x",)
    )
    partial = settled(judge(graph, subject, outcome, attempt=2)).outcome
    assert (partial.status, partial.notes) == ("partial_success", "retries exhausted, partial accepted")
    assert (partial.failure_reason, partial.failure_class) == ("exit status 1", "")
    assert partial.context_updates == {"tool.output": "half"}
    assert (partial.preferred_label, partial.suggested_next_ids) == ("", ())


def test_a_verdict_is_not_accepted_in_part() -> None:
    """A failure that is not retried was not exhausted, so ``allow_partial`` does not apply to it."""
    graph, subject = stage(allow_partial="true", max_retries=2)
    assert settled(judge(graph, subject, failure("wrong", failure_class="logic"), attempt=1)).outcome.status == "fail"


def test_custom_and_successful_outcomes_are_settled_as_they_are() -> None:
    """A word of the pipeline's own is not retried and raises no retry decision."""
    graph, subject = stage(max_retries=2)
    for outcome in (success(), Outcome("approved"), Outcome(Status.SKIPPED), Outcome(Status.PARTIAL_SUCCESS)):
        assert judge(graph, subject, outcome, attempt=1) == Settled(outcome)


@pytest.mark.parametrize("kind", ["start", "exit", "conditional"])
def test_markers_run_once(kind: str) -> None:
    """Start, exit and conditional nodes have one attempt, whatever they or the graph ask for."""
    graph, subject = stage({"default_max_retries": 3}, type=kind, max_retries=3)
    verdict = settled(judge(graph, subject, failure("connection reset"), attempt=1))
    assert (verdict.outcome.failure_class, verdict.reason, verdict.blocked) == ("transient_infra", "", False)
