"""What real agent programs printed, recorded against a stub of their providers, and what the adapters make of it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import pytest

from kilroy_engine.agents.claude import Claude
from kilroy_engine.agents.codex import Codex
from kilroy_engine.agents.gemini import Gemini
from kilroy_engine.agents.running.judge import Limits, Seen, judged
from kilroy_engine.agents.running.program import Program
from kilroy_engine.agents.running.reports import (
    Closed,
    Report,
    SessionBegan,
    SessionTotals,
    Tokens,
    ToolDenied,
    ToolEnded,
    ToolStarted,
    Trouble,
    Used,
)
from kilroy_engine.processes.command import CommandEnd, Ending
from kilroy_engine.traversal.outcome import Outcome

RECORDED = Path(__file__).parents[2] / "data" / "agents"
PROGRAMS: dict[str, Program] = {"claude": Claude(), "codex": Codex(), "gemini": Gemini()}
# Facts of the providers: a status of 429 and from 500 up may pass, any other from 400 up will not; a quota passes with time.
FAULTS = {
    "http400": "deterministic",
    "http401": "deterministic",
    "http403": "deterministic",
    "http404": "deterministic",
    "http429": "transient_infra",
    "http500": "transient_infra",
    "http503": "transient_infra",
    "http529": "transient_infra",
    "late500": "transient_infra",
    "quota": "quota_exhausted",
    "credit": "quota_exhausted",
    "plan": "quota_exhausted",
    "budget": "budget_exhausted",
    "max-turns": "budget_exhausted",
}
GOOD = ("say", "write", "write-partial", "shell", "two", "failing-tool", "unknown-tool", "flaky429", "flaky500", "resume")


@dataclass(frozen=True)
class Heard:
    """What a recorded call came to."""

    reports: tuple[Report, ...]
    outcome: Outcome | None

    def of(self, kind: type[Report]) -> list[Report]:  # type: ignore[valid-type]
        return [report for report in self.reports if isinstance(report, kind)]


def heard(agent: str, scenario: str) -> Heard:
    folder = RECORDED / agent
    meta = json.loads((folder / f"{scenario}.meta.json").read_text())
    transcript = PROGRAMS[agent].transcript()
    reports = [report for line in (folder / f"{scenario}.ndjson").read_text().splitlines() for report in transcript.read(line)]
    last = transcript.end(meta["exit_code"], meta["stderr"])
    reports += [last] if last else []
    closed = next((report for report in reversed(reports) if isinstance(report, Closed)), None)
    trouble = next((report for report in reversed(reports) if isinstance(report, Trouble)), None)
    spoken = sum(report.tokens.output for report in reports if isinstance(report, Used))
    spoken += sum(report.tokens.output for report in reports if isinstance(report, SessionTotals) and report.tokens)
    end = CommandEnd(Ending.EXITED, meta["exit_code"], 1.0)
    return Heard(tuple(reports), judged(agent, Seen(end, closed, trouble, spoken, meta["stderr"]), Limits(60, 60), ""))


def recorded(*scenarios: str) -> list[tuple[str, str]]:
    return [(agent, name) for agent in PROGRAMS for name in scenarios if (RECORDED / agent / f"{name}.ndjson").exists()]


@pytest.mark.parametrize(("agent", "scenario"), recorded(*GOOD))
def test_what_ends_well_is_no_failure(agent: str, scenario: str) -> None:
    """Exit code 0 with a closing event that says success is none, whatever tools failed or were tried twice on the way."""
    assert heard(agent, scenario).outcome is None


@pytest.mark.parametrize(("agent", "scenario"), recorded(*FAULTS))
def test_a_providers_refusal_has_the_class_that_decides_about_another_attempt(agent: str, scenario: str) -> None:
    """What may pass is transient, what will not is deterministic; a spent quota and a reached limit have their own classes."""
    outcome = heard(agent, scenario).outcome
    assert outcome is not None
    assert outcome.failure_class == FAULTS[scenario], outcome.failure_reason


@pytest.mark.parametrize("agent", PROGRAMS)
def test_a_stream_that_is_cut_is_transient_where_the_program_does_not_recover(agent: str) -> None:
    """claude asks again without a stream and succeeds; codex and gemini give up."""
    outcome = heard(agent, "cut").outcome
    assert (outcome is None) if agent == "claude" else (outcome is not None and outcome.failure_class == "transient_infra")


def test_an_error_inside_of_a_good_answer_is_a_failure_although_the_exit_code_is_0() -> None:
    """gemini ends with exit code 0 and says in its closing event that it has failed."""
    outcome = heard("gemini", "sse-error").outcome
    assert outcome is not None
    assert outcome.failure_class == "transient_infra"
    assert "finish reason" in outcome.failure_reason


@pytest.mark.parametrize("agent", PROGRAMS)
def test_a_session_that_is_not_there_is_told_from_other_failures(agent: str) -> None:
    """Each program says in its own way that it does not know a session: in JSON, on standard error, by its exit code."""
    reports = heard(agent, "resume-unknown").reports
    troubles = [report.trouble if isinstance(report, Closed) else report for report in reports]
    assert any(isinstance(trouble, Trouble) and trouble.lost for trouble in troubles)


@pytest.mark.parametrize("agent", PROGRAMS)
def test_every_program_names_its_session(agent: str) -> None:
    """A later stage goes on with the conversation by this name."""
    names = [report.session for report in heard(agent, "say").reports if isinstance(report, SessionBegan)]
    assert names
    assert all(names)


@pytest.mark.parametrize("agent", PROGRAMS)
def test_each_use_of_a_tool_is_told_once_at_its_start_and_once_at_its_end(agent: str) -> None:
    """Two tools in one answer: two starts, two ends, the same ids."""
    told = heard(agent, "two").reports
    started = [report.call_id for report in told if isinstance(report, ToolStarted)]
    ended = [report.call_id for report in told if isinstance(report, ToolEnded)]
    assert len(set(started)) == 2
    assert sorted(started) == sorted(ended)


def test_a_tool_that_is_denied_is_told() -> None:
    """claude goes on without it and ends well."""
    denied = [report.tool for report in heard("claude", "denied").reports if isinstance(report, ToolDenied)]
    assert set(denied) == {"Write"}
    assert heard("claude", "denied").outcome is None


@pytest.mark.parametrize(
    ("agent", "scenario", "tokens"),
    [
        # The stub's figures: an answer reads 1,000 tokens (then 1,100, then 1,200) and 400 kept ones; claude counts those that
        # were kept apart from the input, the others within it.
        ("claude", "write", Tokens(4500, 63, 1200)),
        ("claude", "write-partial", Tokens(4500, 63, 1200)),
        ("gemini", "write", Tokens(4500, 48, 1200)),
    ],
)
def test_tokens_of_a_task_are_what_the_provider_counted(agent: str, scenario: str, tokens: Tokens) -> None:
    """Three answers of the write scenario, each counted once."""
    total = Tokens()
    for report in heard(agent, scenario).reports:
        if isinstance(report, Used):
            total += report.tokens
    assert total == tokens


def test_codex_tells_the_total_of_the_whole_conversation() -> None:
    """After a resume its figure holds the tokens of the task before: the difference is this task's."""
    [first] = [report for report in heard("codex", "write").reports if isinstance(report, SessionTotals)]
    [second] = [report for report in heard("codex", "resume").reports if isinstance(report, SessionTotals)]
    assert first.tokens is not None
    assert second.tokens is not None
    assert second.tokens.beyond(first.tokens) == Tokens(1400, 20, 400)
