"""Failure classes and signatures."""

from __future__ import annotations

import pytest
from scripted_walk import failure, success

from kilroy_engine.errors import PermanentStageError, RunCanceled, StopKind, TransientStageError
from kilroy_engine.traversal.failure import classify, failure_of_exception, signature
from kilroy_engine.traversal.outcome import Outcome, Status

CLASSES = {
    "exit status 3": "deterministic",
    "": "deterministic",
    "Post: context deadline exceeded (canceled)": "canceled",
    "run cancelled by user": "canceled",
    "tool_command timed out after 1s": "transient_infra",
    "dial tcp 10.0.0.1:443: i/o timeout": "transient_infra",
    "Could not resolve hostname example": "transient_infra",
    "HTTP 503 from the provider": "transient_infra",
    "rename: Invalid cross-device link": "transient_infra",
    "could not bind port 5023": "deterministic",
    "agent stopped: max_turns reached": "budget_exhausted",
    "Context window exceeded": "budget_exhausted",
    "write_scope_violation: /etc/passwd": "structural",
}


@pytest.mark.parametrize(("reason", "expected"), CLASSES.items())
def test_the_words_of_a_reason_decide_the_class(reason: str, expected: str) -> None:
    """Canceled outranks transient, transient outranks budget, then structural; anything else is deterministic."""
    assert classify(failure(reason)) == expected


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("transient", "transient_infra"),
        ("toolchain_workspace_io", "transient_infra"),
        ("Cancelled", "canceled"),
        ("budget exhausted", "budget_exhausted"),
        ("compile-loop", "compilation_loop"),
        ("scope_violation", "structural"),
        ("permanent", "deterministic"),
        ("something else", "deterministic"),
    ],
)
def test_a_declared_class_outranks_the_reason(word: str, expected: str) -> None:
    """A class may be declared on the outcome or in its context updates; spellings are read, unknown ones count."""
    reason = "connection reset"
    assert classify(failure(reason, failure_class=word)) == expected
    assert classify(Outcome(Status.RETRY, failure_reason=reason, context_updates={"failure_class": word})) == expected


def test_only_failures_have_a_class() -> None:
    """A stage that did not fail has no failure class, whatever it says."""
    assert classify(success()) == ""
    assert classify(Outcome("approved", failure_reason="timeout", failure_class="transient")) == ""


def test_a_signature_forgets_figures_and_layout() -> None:
    """Numbers, hex words and spacing do not make another failure (Kilroy's form of a signature)."""
    first = failure("Exit status 3,  at  commit deadbeef01\n")
    second = failure("exit status 14, at commit 0123456789abcdef")
    assert signature("c", first) == signature("c", second) == "c|deterministic|exit status <n>,at commit <hex>"
    assert signature("c", failure("timeout: connection reset")) == "c|transient_infra|timeout: connection reset"
    assert signature("c", Outcome(Status.FAIL)) == "c|deterministic|status=fail"


def test_a_declared_signature_stands_for_the_reason() -> None:
    """A handler may say what makes its failures the same; Kilroy's fan-in does."""
    declared = "parallel_all_failed|deterministic|branches=2|b1:exit status 1;b2:exit status 2"
    outcome = Outcome(Status.FAIL, failure_reason="all parallel branches failed", failure_signature=declared)
    expected = "j|deterministic|parallel_all_failed|deterministic|branches=<n>|b1:exit status <n>;b2:exit status <n>"
    assert signature("j", outcome) == expected
    assert signature("j", outcome.with_updates(context_updates={"tool.output": "noise"})) == expected


def test_a_long_reason_is_cut_to_240_bytes_without_breaking_a_character() -> None:
    """The reason's part of a signature is at most 240 bytes of UTF-8."""
    reason = signature("c", failure("ä" * 300)).removeprefix("c|deterministic|")
    assert reason == "ä" * 120
    assert len(signature("c", failure("x" + "ä" * 300)).removeprefix("c|deterministic|").encode()) == 239


def tool_failure(output: str) -> Outcome:
    return Outcome(Status.FAIL, failure_reason="exit status 1", context_updates={"tool.output": output})


def test_a_tool_that_fails_in_another_way_has_another_signature() -> None:
    """The output's tail is part of the signature; without output the text is Kilroy's alone."""
    assert signature("t", tool_failure("")) == "t|deterministic|exit status <n>"
    one, other = signature("t", tool_failure("FAILED test_a")), signature("t", tool_failure("FAILED test_b"))
    assert one.startswith("t|deterministic|exit status <n>|output:")
    assert one != other
    assert signature("t", tool_failure("5 failed, 1 passed")) != signature("t", tool_failure("3 failed, 3 passed"))


def test_noise_in_the_output_does_not_hide_that_a_failure_repeats() -> None:
    """Colors, times, durations, addresses, process ids and temporary folders differ in every run of the same test."""
    first = "\x1b[31mFAILED\x1b[0m test_a at 0x7f3a2b in /tmp/x81/y\n2026-01-02T03:04:05Z pid 48213 1 failed in 0.12s\n"
    again = "FAILED  test_a at 0x55e1c0 in /tmp/q/z\r\n2026-11-22 13:00:59 pid 51877 1 failed in 2.5s"
    assert signature("t", tool_failure(first)) == signature("t", tool_failure(again))


def test_only_the_last_twenty_lines_of_output_count() -> None:
    """What stands before the last twenty lines is history."""
    tail = "\n".join(f"line {i}" for i in range(20))
    assert signature("t", tool_failure("before\n" + tail)) == signature("t", tool_failure("other\n\n" + tail))
    assert signature("t", tool_failure(tail)) != signature("t", tool_failure(tail + "\nline 20"))


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (TransientStageError("provider answered nothing", node="a", attempt=1), "transient_infra"),
        (PermanentStageError("connection refused by policy", node="a", attempt=1), "deterministic"),
        (RunCanceled("canceled: by kilroy stop", kind=StopKind.PERSON), "canceled"),
        (OSError("connection reset by peer"), "transient_infra"),
        (ValueError(), "deterministic"),
    ],
)
def test_an_exception_becomes_a_failed_outcome(error: Exception, expected: str) -> None:
    """A handler's exception is a failure with its text as reason; the kind of error outranks its words (Spec 4.12)."""
    outcome = failure_of_exception(error)
    assert (outcome.status, classify(outcome)) == ("fail", expected)
    assert outcome.failure_reason == (str(error) or "ValueError")
