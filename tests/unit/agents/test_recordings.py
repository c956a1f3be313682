"""The recorded runs of the real agents are whole, hold nothing of the machine, and say what is known about the agents' ends."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from agent_stub.cases import CASES
from agent_stub.recordings import FOLDER, load

RECORDED = [(agent, name) for name, case in CASES.items() for agent in case.agents]
each_recording = pytest.mark.parametrize(("agent", "name"), RECORDED, ids=lambda word: word)

# Denied and failed tools, and tools that are not there, are a success to all agents: the model has had its last word.
FINE = {
    "say",
    "write",
    "write-partial",
    "shell",
    "two",
    "failing-tool",
    "unknown-tool",
    "denied",
    "resume",
    "flaky429",
    "flaky500",
}
# Claude asks once more without a stream, Codex begins the stream again, Gemini does neither.
RECOVERED = {"claude": {"cut", "cut-once", "sse-error"}, "codex": {"cut-once"}, "gemini": set[str]()}
# Gemini ends with the HTTP status modulo 256, with 17 after 529, with its own 42 for an unknown session and 53 for the limit of
# turns; an error inside of a stream is told in its closing line alone.
GEMINI_EXITS = {
    "http400": 144,
    "http401": 145,
    "http403": 147,
    "http429": 173,
    "quota": 173,
    "credit": 173,
    "http500": 244,
    "late500": 244,
    "http503": 247,
    "http529": 17,
    "resume-unknown": 42,
    "resume-nothing": 42,
    "max-turns": 53,
    "sse-error": 0,
}


def says_success(agent: str, last: dict[str, Any]) -> bool:
    match agent:
        case "claude":
            return last.get("type") == "result" and not last["is_error"]
        case "codex":
            return last.get("type") == "turn.completed"
        case _:
            return last.get("type") == "result" and last["status"] == "success"


@each_recording
def test_success_is_an_exit_with_0_and_a_closing_line_that_says_so(agent: str, name: str) -> None:
    """Either alone is not enough: Gemini ends with 0 after an error inside of a stream."""
    recorded = load(agent, name)
    last = recorded.lines[-1] if recorded.lines else {}
    succeeded = recorded.meta.exit_code == 0 and says_success(agent, last)
    assert succeeded == (name in FINE | RECOVERED[agent])


@each_recording
def test_the_exit_code_of_a_failure_is_the_agents_own(agent: str, name: str) -> None:
    if name in FINE | RECOVERED[agent]:
        assert load(agent, name).meta.exit_code == 0
    else:
        assert load(agent, name).meta.exit_code == (GEMINI_EXITS.get(name, 1) if agent == "gemini" else 1)


NO_SESSION = {
    ("codex", "resume-unknown"): "no rollout found for thread id",
    ("codex", "resume-nothing"): "no rollout found for thread id",
    ("gemini", "resume-unknown"): "Invalid session identifier",
    ("gemini", "resume-nothing"): "No previous sessions found for this project",
}


@pytest.mark.parametrize(("agent", "name"), NO_SESSION)
def test_an_unknown_session_is_told_on_the_standard_error_alone(agent: str, name: str) -> None:
    """Codex and Gemini print no line at all then. No model was asked."""
    recorded = load(agent, name)
    assert (recorded.stdout, recorded.meta.requests) == ("", 0)
    assert NO_SESSION[agent, name] in recorded.meta.stderr


@pytest.mark.parametrize("name", ["resume-unknown", "resume-nothing"])
def test_claude_tells_an_unknown_session_in_its_closing_line(name: str) -> None:
    told = load("claude", name)
    assert (told.lines[-1]["subtype"], told.meta.requests) == ("error_during_execution", 0)
    assert "No conversation found with session ID" in str(told.lines[-1]["errors"])


@pytest.mark.parametrize(("agent", "name"), [one for one in RECORDED if one not in NO_SESSION])
def test_the_first_line_names_the_session(agent: str, name: str) -> None:
    first = load(agent, name).lines[0]
    assert first["thread_id" if agent == "codex" else "session_id"]


@pytest.mark.parametrize("agent", ["claude", "codex", "gemini"])
def test_retries_keep_to_the_limits_that_the_agents_were_given(agent: str) -> None:
    """Claude 2 more, Codex 1 more of a request for each of 2 streams, Gemini 2 in all. The answer to a bad request is final but
    for Claude, which tries it with fewer features."""
    most = {"claude": 3, "codex": 4, "gemini": 2}[agent]
    asked = {name: load(agent, name).meta.requests for name in CASES if name.startswith("http")}
    if agent == "claude":
        assert asked.pop("http400") <= 6
    assert all(1 <= count <= most for count in asked.values()), asked


def test_a_subscription_says_when_it_comes_back() -> None:
    """Claude in an event of its own, in seconds of the epoch; Codex in its last words."""
    events = [line for line in load("claude", "plan").lines if line["type"] == "rate_limit_event"]
    info: Any = events[0]["rate_limit_info"]
    assert (info["status"], info["rateLimitType"]) == ("rejected", "five_hour")
    assert info["resetsAt"] > 1_700_000_000
    last: Any = load("codex", "plan").lines[-1]
    assert re.search(r"hit your usage limit.*try again at \d+:\d\d [AP]M", last["error"]["message"])


@each_recording
def test_a_recording_holds_nothing_of_the_machine_that_made_it(agent: str, name: str) -> None:
    """Neither a port nor a folder but those below /agent that stand for its own; Gemini has a tmp of its own in them."""
    text = (FOLDER / agent / f"{name}.meta.json").read_text() + (FOLDER / agent / f"{name}.ndjson").read_text()
    assert not re.search(r"127\.0\.0\.1|(?<!gemini)/tmp/|(?<!/agent)/home/|/root/", text)
    assert len(text) < 40_000


def test_every_file_belongs_to_a_case_and_every_line_is_json() -> None:
    """A case that was renamed leaves no recording behind. Codex and Gemini print nothing else on their standard output."""
    expected = {FOLDER / agent / f"{name}{ending}" for agent, name in RECORDED for ending in (".ndjson", ".meta.json")}
    assert {path for path in FOLDER.rglob("*") if path.is_file()} - {FOLDER / "README.md"} == expected
    for path in FOLDER.rglob("*.ndjson"):
        assert all(isinstance(json.loads(line), dict) for line in path.read_text().splitlines()), path
