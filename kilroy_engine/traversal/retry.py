"""Attempts at a stage: whether another one follows, after how long, and the outcome of an exhausted stage (Spec 3.5, 3.6)."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from kilroy_engine.graph.attributes import read_bool, read_int
from kilroy_engine.graph.model import Graph, Node
from kilroy_engine.graph.node_types import TOOL, runs_once
from kilroy_engine.traversal.failure import FailureClass, classify
from kilroy_engine.traversal.outcome import Outcome, Status

RETRIES_EXCEEDED = "max retries exceeded"
PARTIAL_ACCEPTED = "retries exhausted, partial accepted"

RETRYABLE_CLASSES = frozenset({FailureClass.TRANSIENT_INFRA, FailureClass.BUDGET_EXHAUSTED, FailureClass.COMPILATION_LOOP})
_LARGEST_DIGEST = 2**64 - 1


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How many attempts a stage has, and how long the waits between them are. ``max_delay_ms`` 0 means no cap."""

    max_attempts: int = 1
    initial_delay_ms: int = 200
    backoff_factor: float = 2.0
    max_delay_ms: int = 60_000
    jitter: bool = True


STANDARD = RetryPolicy()
PRESETS: Mapping[str, RetryPolicy] = {
    "none": RetryPolicy(initial_delay_ms=0),
    "standard": STANDARD,
    "aggressive": RetryPolicy(initial_delay_ms=500),
    "linear": RetryPolicy(initial_delay_ms=500, backoff_factor=1.0),
    "patient": RetryPolicy(initial_delay_ms=2000, backoff_factor=3.0),
}
"""The backoff of the named policies (Spec 3.6). The number of attempts always comes from ``max_retries``."""


@dataclass(frozen=True, slots=True)
class Again:
    """Another attempt follows. ``reason`` is the text of the event ``retry_decision``."""

    reason: str
    failure_class: str


@dataclass(frozen=True, slots=True)
class Settled:
    """The visit is over with ``outcome``. ``reason`` is the text of ``retry_decision``, empty where no such event follows.

    ``blocked``: attempts were left, but this kind of failure is not retried (event ``stage_retry_blocked``).
    """

    outcome: Outcome
    reason: str = ""
    failure_class: str = ""
    blocked: bool = False


def retry_policy(graph: Graph, node: Node) -> RetryPolicy:
    """The node's policy. The graph's ``retry_policy`` and ``retry.backoff.*`` change the standard policy, then the node's
    do.
    """
    policy = STANDARD
    for text in (graph.text, node.text):
        policy = _refine(policy, text)
    return replace(policy, max_attempts=1 + _max_retries(graph, node))


def delay_s(policy: RetryPolicy, run_id: str, node_id: str, attempt: int) -> float:
    """Seconds to wait after the failed attempt ``attempt`` (from 1), in whole milliseconds.

    The jitter (times 0.5 to 1.5, after the cap) comes from a digest of run, node and attempt, so that a run always waits the
    same time.
    """
    try:
        delay_ms = policy.initial_delay_ms * policy.backoff_factor ** (attempt - 1)
    except OverflowError:
        delay_ms = math.inf
    if policy.max_delay_ms > 0 or math.isinf(delay_ms):
        delay_ms = min(delay_ms, policy.max_delay_ms or STANDARD.max_delay_ms)
    if policy.jitter:
        digest = hashlib.sha256(f"{run_id}:{node_id}:{attempt}".encode()).digest()
        delay_ms *= 0.5 + int.from_bytes(digest[:8], "big") / _LARGEST_DIGEST
    return max(0, int(delay_ms)) / 1000


def judge(graph: Graph, node: Node, outcome: Outcome, *, attempt: int, accepts_partial: bool = True) -> Again | Settled:
    """Whether another attempt follows the attempt ``attempt`` (from 1) that came to ``outcome``.

    Without ``accepts_partial`` an exhausted stage has failed even with ``allow_partial``, because there is no work to accept.
    """
    if not outcome.failed or runs_once(node.type):
        return Settled(_classified(outcome))
    kind = classify(outcome)
    attempts = retry_policy(graph, node).max_attempts
    retryable = _retryable(node, outcome, kind)
    if attempt >= attempts:
        accepts = accepts_partial and node.allow_partial
        settled = _exhausted(node, outcome, attempt=attempt, accepts_partial=accepts) if retryable else _failed(outcome)
        return Settled(settled, _decision(outcome, "max retries exhausted"), kind)
    if retryable:
        return Again(_decision(outcome, "attempts remaining"), kind)
    return Settled(_failed(outcome), _decision(outcome, f"failure_class={kind} not retryable"), kind, blocked=True)


def _retryable(node: Node, outcome: Outcome, kind: str) -> bool:
    if kind in {FailureClass.CANCELED, FailureClass.QUOTA_EXHAUSTED}:
        return False
    if outcome.status == Status.RETRY or node.type == TOOL:
        return True
    return not outcome.verdict and kind in RETRYABLE_CLASSES


def _exhausted(node: Node, outcome: Outcome, *, attempt: int, accepts_partial: bool) -> Outcome:
    outcome = outcome.with_updates(retries=attempt - 1)
    if accepts_partial:
        # The work and its context updates are accepted, the wishes of a stage that did not succeed are not.
        return outcome.with_updates(
            status=Status.PARTIAL_SUCCESS,
            notes=PARTIAL_ACCEPTED,
            preferred_label="",
            suggested_next_ids=(),
            failure_class="",
        )
    # A tool that was tried to the end failed for its own reason; so did anything that was tried only once by order.
    own_reason = outcome.status == Status.FAIL and (node.type == TOOL or attempt == 1)
    reason = outcome.failure_reason.strip()
    if not own_reason or not reason:
        reason = f"{RETRIES_EXCEEDED}: {reason}" if reason else RETRIES_EXCEEDED
    return _failed(outcome).with_updates(failure_reason=reason)


def _failed(outcome: Outcome) -> Outcome:
    return _classified(outcome).with_updates(status=Status.FAIL)


def _classified(outcome: Outcome) -> Outcome:
    kind = classify(outcome)
    return outcome if outcome.failure_class == kind else outcome.with_updates(failure_class=kind)


def _decision(outcome: Outcome, verdict: str) -> str:
    reason = outcome.failure_reason.strip()
    return f"{reason}, {verdict}" if reason else verdict


def _max_retries(graph: Graph, node: Node) -> int:
    of_graph = (read_int(graph.text(key), default=None) for key in ("default_max_retries", "default_max_retry"))
    candidates = (node.max_retries, *of_graph)
    return next((retries for retries in candidates if retries is not None and retries >= 0), 0)


def _refine(policy: RetryPolicy, text: Callable[[str], str]) -> RetryPolicy:
    """``policy`` changed by the attributes of the graph or of the node: the named policy first, then the single numbers."""
    policy = PRESETS.get(text("retry_policy").strip().lower(), policy)
    factor = _read_factor(text("retry.backoff.backoff_factor"), default=policy.backoff_factor)
    return replace(
        policy,
        initial_delay_ms=read_int(text("retry.backoff.initial_delay_ms"), default=policy.initial_delay_ms),
        backoff_factor=factor,
        max_delay_ms=read_int(text("retry.backoff.max_delay_ms"), default=policy.max_delay_ms),
        jitter=read_bool(text("retry.backoff.jitter"), default=policy.jitter),
    )


def _read_factor(text: str, *, default: float) -> float:
    try:
        factor = float(text)
    except ValueError:
        return default
    return factor if math.isfinite(factor) and factor > 0 else default
