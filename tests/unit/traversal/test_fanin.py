"""How a fan-out and its fan-in are judged (Spec 4.8, 4.9; texts and recorded verdicts are Kilroy's)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scripted_walk import node

from kilroy_engine.rundir.stages.branches import BranchRecord
from kilroy_engine.traversal.fanin import (
    ErrorPolicy,
    FanOutPolicy,
    JoinPolicy,
    all_failed,
    early_termination,
    verdict,
    visible_results,
    winner,
)
from kilroy_engine.traversal.outcome import Outcome, Status


def result(key: str, status: str = "success", *, reason: str = "", score: float | None = None) -> BranchRecord:
    return BranchRecord(
        branch_key=key,
        start_node_id=key,
        stop_node_id="j",
        outcome=Outcome(status, failure_reason=reason),
        context={} if score is None else {"score": score},
    )


GOOD, BAD = result("good"), result("bad", "fail", reason="exit status 1")


def test_the_words_and_numbers_of_a_fan_out_are_read_and_nonsense_means_the_default() -> None:
    """Kilroy: unknown words and numbers that make no sense are the defaults: wait_all, continue, k 1, half, 4 at a time."""
    full = node("p", join_policy="K_OF_N", error_policy="fail_fast", k=3, quorum_fraction="0.75", max_parallel=9)
    assert FanOutPolicy.of(full) == FanOutPolicy(JoinPolicy.K_OF_N, ErrorPolicy.FAIL_FAST, 3, 0.75, 9)
    odd = node("p", join_policy="whenever", error_policy="", k=0, quorum_fraction="-1", max_parallel=0)
    assert FanOutPolicy.of(odd) == FanOutPolicy.of(node("p")) == FanOutPolicy()
    assert FanOutPolicy.of(node("p", quorum_fraction="7")).quorum_fraction == 1.0


@pytest.mark.parametrize(
    ("results", "status", "reason", "notes"),
    [
        ([GOOD, result("b")], "success", "", "wait_all: all 2 branches succeeded"),
        ([GOOD, result("b", "partial_success")], "success", "", "wait_all: all 2 branches succeeded"),
        ([GOOD, BAD, result("c")], "partial_success", "1 of 3 branches failed", "wait_all: 1/3 branches failed"),
        ([BAD, BAD], "partial_success", "2 of 2 branches failed", "wait_all: 2/2 branches failed"),
    ],
)
def test_wait_all_never_fails(results: list[BranchRecord], status: str, reason: str, notes: str) -> None:
    """The recorded fan-outs with none, one of three and both branches failed."""
    outcome = verdict(FanOutPolicy(), results)
    assert (outcome.status, outcome.failure_reason, outcome.notes) == (status, reason, notes)


@pytest.mark.parametrize(
    ("policy", "results", "reason"),
    [
        (FanOutPolicy(JoinPolicy.FIRST_SUCCESS), [BAD, BAD], "first_success: all 2 branches failed"),
        (FanOutPolicy(JoinPolicy.K_OF_N, k=2), [GOOD, BAD, BAD], "k_of_n: only 1/3 succeeded (need k=2)"),
        (FanOutPolicy(JoinPolicy.QUORUM), [GOOD, BAD, BAD], "quorum: only 1/3 succeeded (need 2, fraction=0.50)"),
    ],
)
def test_the_other_policies_fail_unless_enough_branches_succeed(
    policy: FanOutPolicy, results: list[BranchRecord], reason: str
) -> None:
    """Kilroy's texts; with one more success each of them is met."""
    assert verdict(policy, results).failed
    assert verdict(policy, results).failure_reason == reason
    assert verdict(policy, [*results, result("x"), result("y")]).status == Status.SUCCESS


def test_ignored_failures_count_as_if_the_branch_were_not_there() -> None:
    """error_policy=ignore: what failed is neither judged nor shown to later stages."""
    policy = FanOutPolicy(error=ErrorPolicy.IGNORE)
    assert verdict(policy, [GOOD, BAD]).notes == "wait_all: all 1 branches succeeded"
    assert visible_results(policy, [GOOD, BAD]) == [GOOD]
    assert visible_results(FanOutPolicy(), [GOOD, BAD]) == [GOOD, BAD]


@pytest.mark.parametrize(
    ("policy", "results", "reason"),
    [
        (FanOutPolicy(error=ErrorPolicy.FAIL_FAST), [GOOD, BAD], 'fail_fast: branch "bad" failed'),
        (FanOutPolicy(JoinPolicy.FIRST_SUCCESS), [BAD, GOOD], 'first_success: branch "good" succeeded'),
        (FanOutPolicy(JoinPolicy.K_OF_N, k=2), [GOOD, result("b")], "k_of_n: reached k=2 successes"),
        (FanOutPolicy(JoinPolicy.K_OF_N, k=2), [GOOD, BAD], ""),
        (FanOutPolicy(JoinPolicy.QUORUM), [GOOD, GOOD, GOOD], ""),
        (FanOutPolicy(), [BAD, BAD], ""),
    ],
)
def test_branches_are_stopped_as_soon_as_the_answer_is_certain(
    policy: FanOutPolicy, results: list[BranchRecord], reason: str
) -> None:
    """Kilroy: fail_fast, first_success and k_of_n stop the others; quorum and wait_all wait for all."""
    assert early_termination(policy, results) == reason


def test_the_winner_is_best_by_status_then_score_then_key() -> None:
    """Spec 4.9; a failed branch never wins, and statuses that nobody ranks come last (Kilroy)."""
    assert winner([BAD]) is None
    assert winner([result("b"), result("a")]) == result("a")
    assert winner([result("a"), result("b", score=2.5)]) == result("b", score=2.5)
    assert winner([result("a", "partial_success", score=9), result("b")]) == result("b")
    ranked = [result("a", "skipped"), result("b", "approved"), result("c", "retry"), result("d", "partial_success")]
    assert winner(ranked) == ranked[3]
    assert winner(ranked[:3]) == ranked[2]


def test_a_fan_in_without_a_winner_says_of_each_branch_why() -> None:
    """The recorded run in which both branches fail: deterministic, with the reasons in the signature."""
    both = [result("b1", "fail", reason="exit status 1"), result("b2", "fail", reason="exit status 2")]
    outcome = all_failed(both)
    assert (outcome.failure_reason, outcome.failure_class) == ("all parallel branches failed", "deterministic")
    assert outcome.failure_signature == "parallel_all_failed|deterministic|branches=2|b1:exit status 1;b2:exit status 2"
    transient = [result(key, "fail", reason="connection refused") for key in ("a", "b")]
    assert all_failed(transient).failure_class == "transient_infra"


STATUSES = {"a": "success", "b": "fail", "c": "retry", "d": "skipped", "e": "success"}


@given(st.permutations([result(key, status) for key, status in STATUSES.items()]))
def test_verdict_and_winner_do_not_depend_on_who_answers_first(results: list[BranchRecord]) -> None:
    """Branches answer in any order; what the fan-out comes to and who wins is always the same."""
    policies = [FanOutPolicy(join, error) for join in JoinPolicy for error in ErrorPolicy]
    ordered = sorted(results, key=lambda r: r.branch_key)
    assert winner(results) == winner(ordered)
    assert [verdict(p, results).status for p in policies] == [verdict(p, ordered).status for p in policies]


@given(
    statuses=st.lists(st.sampled_from([*Status, "approved"]), min_size=1, max_size=6),
    policy=st.builds(
        FanOutPolicy,
        join=st.sampled_from([JoinPolicy.FIRST_SUCCESS, JoinPolicy.K_OF_N]),
        error=st.sampled_from([ErrorPolicy.CONTINUE, ErrorPolicy.IGNORE]),
        k=st.integers(1, 6),
    ),
)
def test_stopping_branches_early_changes_no_verdict(statuses: list[str], policy: FanOutPolicy) -> None:
    """Whenever the others may be stopped, the fan-out succeeds whether they are or not; where it fails, none was stopped."""
    results = [result(str(at), status) for at, status in enumerate(statuses)]
    for answered in range(1, len(results) + 1):
        stopped = [result(str(at), "fail", reason="stopped") for at in range(answered, len(results))]
        if early_termination(policy, results[:answered]):
            assert verdict(policy, results).status == Status.SUCCESS
            assert verdict(policy, [*results[:answered], *stopped]).status == Status.SUCCESS
    assert bool(early_termination(policy, results)) == (verdict(policy, results).status == Status.SUCCESS)
