"""Classifies a failed outcome, and computes the signature that equal failures share."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from enum import StrEnum

from kilroy_engine.errors import PermanentStageError, RunCanceled, TransientStageError
from kilroy_engine.traversal.outcome import Json, Outcome, failure

SIGNATURE_REASON_BYTES = 240
OUTPUT_TAIL_LINES = 20


class FailureClass(StrEnum):
    """Kilroy's failure classes, and ``quota_exhausted``. ``transient_infra``, ``budget_exhausted`` and ``compilation_loop`` are
    worth another attempt.
    """

    TRANSIENT_INFRA = "transient_infra"
    DETERMINISTIC = "deterministic"
    CANCELED = "canceled"
    BUDGET_EXHAUSTED = "budget_exhausted"
    COMPILATION_LOOP = "compilation_loop"
    STRUCTURAL = "structural"
    QUOTA_EXHAUSTED = "quota_exhausted"
    """A provider's quota or a subscription's limit is spent: only time or money helps."""


CYCLE_CLASSES = frozenset({FailureClass.DETERMINISTIC, FailureClass.STRUCTURAL})
"""The classes that the failure-cycle breaker counts: a repetition would fail in the same way."""

_SPELLINGS: Mapping[FailureClass, frozenset[str]] = {
    FailureClass.TRANSIENT_INFRA: frozenset(
        {
            "transient",
            "transient-infra",
            "infra_transient",
            "transient infra",
            "infrastructure_transient",
            "retryable",
            "toolchain_workspace_io",
            "toolchain-workspace-io",
            "toolchain_or_dependency_registry_unavailable",
            "toolchain-dependency-registry-unavailable",
        }
    ),
    FailureClass.CANCELED: frozenset({"cancelled"}),
    FailureClass.DETERMINISTIC: frozenset({"non_transient", "non-transient", "permanent", "logic", "product"}),
    FailureClass.BUDGET_EXHAUSTED: frozenset({"budget-exhausted", "budget exhausted", "budget"}),
    FailureClass.COMPILATION_LOOP: frozenset({"compilation-loop", "compilation loop", "compile_loop", "compile-loop"}),
    FailureClass.QUOTA_EXHAUSTED: frozenset({"quota-exhausted", "quota exhausted", "quota"}),
    FailureClass.STRUCTURAL: frozenset({"structure", "scope_violation", "write_scope_violation"}),
}
_CLASS_OF_WORD = {word: kind for kind, words in _SPELLINGS.items() for word in (*words, str(kind))}

_TRANSIENT_PHRASES = (
    "timeout",
    "timed out",
    "context deadline exceeded",
    "connection refused",
    "connection reset",
    "could not resolve host",
    "temporary failure",
    "network is unreachable",
    "net::err_internet_disconnected",
    "broken pipe",
    "no route to host",
    "temporarily unavailable",
    "try again",
    "rate limit",
    "too many requests",
    "service unavailable",
    "econnrefused",
    "econnreset",
    "dial tcp",
    "transport is closing",
    "stream disconnected",
    "stream closed before",
    "download of config.json failed",
    "toolchain_or_dependency_registry_unavailable",
    "toolchain dependency resolution blocked by network",
    "toolchain_workspace_io",
    "cross-device link",
    "os error 18",
)
_TRANSIENT_CODES = re.compile(r"(?<!\d)50[234](?!\d)")  # as a number of its own: port 5023 is no server error
_BUDGET_PHRASES = (
    "turn limit",
    "max_turns",
    "max turns",
    "token limit reached",
    "token limit exceeded",
    "max tokens",
    "max_tokens",
    "context length exceeded",
    "context window exceeded",
    "budget exhausted",
)
_STRUCTURAL_PHRASES = ("write_scope_violation", "scope violation")


def classify(outcome: Outcome) -> str:
    """The class of a failed outcome, empty for any other. A declared class decides, else the words of the reason (Kilroy's
    order).

    A stage declares a class by the outcome's ``failure_class`` or by the context update of that name. A declared word that is
    no class counts as deterministic.
    """
    if not outcome.failed:
        return ""
    declared = _declared(outcome.failure_class, outcome.context_updates.get("failure_class")).lower()
    if declared:
        return str(_CLASS_OF_WORD.get(declared, FailureClass.DETERMINISTIC))
    return str(_class_of_reason(outcome.failure_reason.lower()))


def _class_of_reason(reason: str) -> FailureClass:
    if "canceled" in reason or "cancelled" in reason:
        return FailureClass.CANCELED
    if any(phrase in reason for phrase in _TRANSIENT_PHRASES) or _TRANSIENT_CODES.search(reason):
        return FailureClass.TRANSIENT_INFRA
    if any(phrase in reason for phrase in _BUDGET_PHRASES):
        return FailureClass.BUDGET_EXHAUSTED
    if any(phrase in reason for phrase in _STRUCTURAL_PHRASES):
        return FailureClass.STRUCTURAL
    return FailureClass.DETERMINISTIC


def signature(node_id: str, outcome: Outcome) -> str:
    """The text by which two failures count as equal: ``<node>|<class>|<reason without figures>``, in Kilroy's form.

    A tool's output adds ``|output:<8 hex>``, a digest of the output's last lines, so that another failing test is another
    failure. A ``failure_signature`` of the outcome or of its context updates replaces reason and output.
    """
    declared = _declared(outcome.failure_signature, outcome.context_updates.get("failure_signature"))
    reason = declared or outcome.failure_reason.strip() or f"status={outcome.status}"
    text = f"{node_id}|{classify(outcome)}|{_without_figures(reason)}"
    digest = "" if declared else _digest_of(outcome)
    return f"{text}|output:{digest}" if digest else text


def failure_of_exception(error: BaseException) -> Outcome:
    """The failed outcome for an exception that a handler raised (Spec 4.12). The exception's type decides the class."""
    match error:
        case TransientStageError():
            declared = str(FailureClass.TRANSIENT_INFRA)
        case PermanentStageError():
            declared = str(FailureClass.DETERMINISTIC)
        case RunCanceled():
            declared = str(FailureClass.CANCELED)
        case _:
            declared = ""
    reason = str(error).strip() or type(error).__name__
    return failure(reason, failure_class=declared)


def _declared(*candidates: Json) -> str:
    """The first text that is not blank."""
    return next((value.strip() for value in candidates if isinstance(value, str) and value.strip()), "")


def _without_figures(reason: str) -> str:
    text = re.sub(r"\b[0-9a-f]{7,64}\b", "<hex>", reason.strip().lower())
    text = re.sub(r"\b\d+\b", "<n>", text)
    text = " ".join(re.sub(r",\s+", ",", text).split())
    return text.encode()[:SIGNATURE_REASON_BYTES].decode(errors="ignore")


# What differs between two runs of the same failing command. Short counts stay: "3 failed" after "5 failed" is progress.
_OUTPUT_NOISE = (
    (re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]"), ""),
    (re.compile(r"\d{4}-\d\d-\d\d(?:[t ]\d\d:\d\d(?::\d\d)?(?:[.,]\d+)?(?:z|[+-]\d\d:?\d\d)?)?"), "<time>"),
    (re.compile(r"\b\d{1,2}:\d\d:\d\d(?:[.,]\d+)?\b"), "<time>"),
    (re.compile(r"\b\d+(?:\.\d+)?\s?(?:ns|µs|us|ms|s|secs?|seconds?|m|mins?|minutes?)\b"), "<duration>"),
    (re.compile(r"(?:/private)?(?:/var)?/tmp/\S*|/var/folders/\S*"), "<tmp>"),
    (re.compile(r"\b0x[0-9a-f]+\b|\b(?=[a-f]*\d)[0-9a-f]{7,64}\b"), "<hex>"),
    (re.compile(r"\b\d{5,}\b"), "<n>"),
)


def _digest_of(outcome: Outcome) -> str:
    """The digest of the tool's output. The tool computes it where the context holds only the output's beginning."""
    output = outcome.context_updates.get("tool.output")
    return outcome.output_digest or output_digest(output if isinstance(output, str) else "")


def output_digest(output: str) -> str:
    """Eight hex digits for the last lines of a tool's output; empty where the tool printed nothing."""
    lines = [line for line in output.splitlines() if line.strip()][-OUTPUT_TAIL_LINES:]
    text = "\n".join(" ".join(line.lower().split()) for line in lines)
    for noise, stand_in in _OUTPUT_NOISE:
        text = noise.sub(stand_in, text)
    return hashlib.sha256(text.encode(errors="replace")).hexdigest()[:8] if text else ""
