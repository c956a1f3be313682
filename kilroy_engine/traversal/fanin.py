"""Judges a fan-out and its fan-in: join and error policies, early termination, the winner (Spec 4.8, 4.9; Kilroy)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol, TypeVar

from kilroy_engine.graph.attributes import read_int, read_number
from kilroy_engine.graph.model import Node
from kilroy_engine.traversal.failure import FailureClass, classify
from kilroy_engine.traversal.outcome import Json, Outcome, Status, failure, success

RESULTS_KEY = "parallel.results"
MERGE_MODE_KEY = "parallel.merge_mode"
ALL_FAILED = "all parallel branches failed"
SCORE_KEY = "score"
"""Context key by which a branch rates its own work. The highest score wins."""

_RANK: Mapping[str, int] = {Status.SUCCESS: 0, Status.PARTIAL_SUCCESS: 1, Status.RETRY: 2}
_UNRANKED = 9
_SIGNATURE_BYTES = 512


class JoinPolicy(StrEnum):
    """Which results of its branches a fan-out needs for a success."""

    WAIT_ALL = "wait_all"
    FIRST_SUCCESS = "first_success"
    K_OF_N = "k_of_n"
    QUORUM = "quorum"


class ErrorPolicy(StrEnum):
    """What a failed branch means for the other branches."""

    CONTINUE = "continue"
    FAIL_FAST = "fail_fast"
    IGNORE = "ignore"


_Word = TypeVar("_Word", JoinPolicy, ErrorPolicy)


@dataclass(frozen=True, slots=True)
class FanOutPolicy:
    """The policies of a fan-out. ``k`` is for ``k_of_n``. ``quorum_fraction``, above 0 and at most 1, is for ``quorum``."""

    join: JoinPolicy = JoinPolicy.WAIT_ALL
    error: ErrorPolicy = ErrorPolicy.CONTINUE
    k: int = 1
    quorum_fraction: float = 0.5
    max_parallel: int = 4

    @classmethod
    def of(cls, node: Node) -> FanOutPolicy:
        """Reads the node's attributes. A word or number without a meaning counts as the default, as in Kilroy."""
        fraction = read_number(node.text("quorum_fraction"), default=0.5)
        return cls(
            join=_word(JoinPolicy, node.text("join_policy"), JoinPolicy.WAIT_ALL),
            error=_word(ErrorPolicy, node.text("error_policy"), ErrorPolicy.CONTINUE),
            k=max(1, read_int(node.text("k"), default=1)),
            quorum_fraction=min(fraction, 1.0) if fraction > 0 else 0.5,
            max_parallel=limit if (limit := read_int(node.text("max_parallel"), default=4)) >= 1 else 4,
        )


class BranchResult(Protocol):
    """The result of a branch: the outcome that the branch is judged by, and the context keys that the branch changed.

    :class:`kilroy_engine.rundir.stages.branches.BranchRecord` has these properties.
    """

    @property
    def branch_key(self) -> str: ...

    @property
    def outcome(self) -> Outcome: ...

    @property
    def context(self) -> Mapping[str, Json]: ...


Result = TypeVar("Result", bound=BranchResult)


def verdict(policy: FanOutPolicy, results: Sequence[BranchResult]) -> Outcome:
    """The fan-out's outcome, without its context keys. Called once no branch is at work any more."""
    if policy.error is ErrorPolicy.IGNORE:
        results = [result for result in results if not result.outcome.failed]
    total, good, bad = len(results), len(successes(results)), len(failures(results))
    match policy.join:
        case JoinPolicy.WAIT_ALL:
            if not bad:
                return success(f"wait_all: all {total} branches succeeded")
            return Outcome(
                Status.PARTIAL_SUCCESS,
                failure_reason=f"{bad} of {total} branches failed",
                notes=f"wait_all: {bad}/{total} branches failed",
            )
        case JoinPolicy.FIRST_SUCCESS:
            needed, unmet = 1, f"first_success: all {total} branches failed"
        case JoinPolicy.K_OF_N:
            needed, unmet = policy.k, f"k_of_n: only {good}/{total} succeeded (need k={policy.k})"
        case JoinPolicy.QUORUM:
            needed = max(1, math.ceil(total * policy.quorum_fraction))
            unmet = f"quorum: only {good}/{total} succeeded (need {needed}, fraction={policy.quorum_fraction:.2f})"
    if good >= needed:
        return success(f"{policy.join}: {good}/{total} branches succeeded")
    return failure(unmet, failure_class=_class_of_all(results))


def early_termination(policy: FanOutPolicy, results: Sequence[BranchResult]) -> str:
    """Why the branches at work can be stopped; empty where they cannot. ``results`` are those of the branches that are over."""
    if policy.error is ErrorPolicy.FAIL_FAST and (bad := failures(results)):
        return f'fail_fast: branch "{bad[0].branch_key}" failed'
    good = successes(results)
    match policy.join:
        case JoinPolicy.FIRST_SUCCESS if good:
            return f'first_success: branch "{good[0].branch_key}" succeeded'
        case JoinPolicy.K_OF_N if len(good) >= policy.k:
            return f"k_of_n: reached k={policy.k} successes"
        case _:
            return ""


def visible_results(policy: FanOutPolicy, results: Iterable[Result]) -> list[Result]:
    """The results that the context holds for later stages: no failed branch with ``error_policy=ignore`` (Kilroy), else all."""
    return [result for result in results if policy.error is not ErrorPolicy.IGNORE or not result.outcome.failed]


def successes(results: Iterable[Result]) -> list[Result]:
    """The branches with the status success or partial_success."""
    return [result for result in results if result.outcome.satisfies_gate]


def failures(results: Iterable[Result]) -> list[Result]:
    """The branches with the status fail or retry."""
    return [result for result in results if result.outcome.failed]


def winner(results: Iterable[Result]) -> Result | None:
    """The best branch whose status is not ``fail``: by status, then by score, then by key (Spec 4.9). None where there is no
    such branch.
    """
    candidates = [result for result in results if result.outcome.status != Status.FAIL]
    return min(candidates, key=_order, default=None)


def all_failed(results: Sequence[BranchResult]) -> Outcome:
    """The fan-in's outcome where no branch can win, in Kilroy's words. The class is transient where all failures are."""
    failure_class = _class_of_all(results)
    reasons = ";".join(f"{result.branch_key}:{result.outcome.failure_reason}" for result in results)
    signature = f"parallel_all_failed|{failure_class}|branches={len(results)}|{reasons}"
    shortened = signature.encode()[:_SIGNATURE_BYTES].decode(errors="ignore")
    return failure(ALL_FAILED, failure_class=failure_class).with_updates(failure_signature=shortened)


def _class_of_all(results: Sequence[BranchResult]) -> str:
    transient = bool(results) and all(classify(r.outcome) == FailureClass.TRANSIENT_INFRA for r in results)
    return FailureClass.TRANSIENT_INFRA if transient else FailureClass.DETERMINISTIC


def _order(result: BranchResult) -> tuple[int, float, str]:
    score = result.context.get(SCORE_KEY, result.outcome.context_updates.get(SCORE_KEY))
    known = score if isinstance(score, int | float) and math.isfinite(score) else 0.0
    return (_RANK.get(result.outcome.status, _UNRANKED), -known, result.branch_key)


def _word(words: type[_Word], text: str, default: _Word) -> _Word:
    try:
        return words(text.strip().lower())
    except ValueError:
        return default
