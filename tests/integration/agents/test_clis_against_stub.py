"""The real coding agents, unmodified, against the stub of their providers: what the engine builds upon holds in their pinned
versions. The engine has no part in these tests."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import psutil
import pytest
from agent_stub import AgentStub, Usage
from agent_stub.cases import ALL, CASES, play
from agent_stub.command_lines import Place, Task, ran, run, start
from agent_stub.fixtures import require
from agent_stub.recordings import load
from agent_stub.scenarios import GREETING
from polling import eventually

each_agent = pytest.mark.parametrize("agent", ALL)


def usage(agent: str, last: dict[str, Any]) -> Usage:
    """Tokens of a closing line. Codex and Gemini count cached ones among those that went in; Gemini does not tell thoughts and
    counts without them, Claude tells none of a provider that reports none."""
    if agent == "claude":
        told = last["usage"]
        return Usage(told["input_tokens"], told["cache_read_input_tokens"], told["output_tokens"])
    if agent == "codex":
        told = last["usage"]
        cached, reasoning = told["cached_input_tokens"], told["reasoning_output_tokens"]
        return Usage(told["input_tokens"] - cached, cached, told["output_tokens"], reasoning)
    told = last["stats"]
    return Usage(told["input_tokens"] - told["cached"], told["cached"], told["output_tokens"])


def spent(agent: str, scenario: Usage) -> Usage:
    """What the agent can tell of it."""
    if agent == "codex":
        return scenario
    return Usage(scenario.fresh, scenario.cached, scenario.output - (scenario.reasoning if agent == "gemini" else 0))


def closing(lines: list[Any]) -> dict[str, Any]:
    """The facts of the last line that say how a run ended."""
    last = lines[-1] if lines else {}
    return {key: last.get(key) for key in ("type", "subtype", "status", "is_error", "api_error_status", "terminal_reason")}


@each_agent
def test_an_agent_writes_a_file_and_its_status_with_its_own_tools(
    agent: str, agent_clis: Path, agent_stub: AgentStub, tmp_path: Path
) -> None:
    """The scenario comes from the prompt, as in a pipeline: the base URL's says something else. The status path is the
    prompt's. Claude 2.1.332, Codex 0.163.0 and Gemini 0.61.0 end with 0 and a closing line that tells the tokens."""
    require(agent_clis, agent)
    work = tmp_path / "work"
    work.mkdir()
    prompt = f"[[scenario:write-status]] create hello.txt\n\n$KILROY_STAGE_STATUS_PATH = {work}/status.json\n- Write it last."
    url = agent_stub.base_url(f"writes-{agent}", "say")
    ended = run(agent, Place(agent_clis, tmp_path / "home", work, url), Task(prompt))
    assert ended.exit_code == 0, ended.stdout + ended.stderr
    assert (work / "hello.txt").read_text() == GREETING
    assert json.loads((work / "status.json").read_text()) == {"status": "success"}
    assert ended.session
    assert usage(agent, ended.lines[-1]) == spent(agent, agent_stub.scenario("write-status").usage)
    asked = agent_stub.asked(f"writes-{agent}")
    assert [(one.scenario, one.turn, one.answer) for one in asked] == [("write-status", turn, 200) for turn in range(3)]


@pytest.mark.slow
@pytest.mark.parametrize(("agent", "name"), [(agent, name) for name, case in CASES.items() for agent in case.agents])
def test_a_case_ends_as_it_was_recorded(agent: str, name: str, agent_clis: Path, agent_stub: AgentStub, tmp_path: Path) -> None:
    """The exit code, the closing line, the files made, and how often the agent asked: its retries keep to their limits. What
    the parsers of the engine were tested with is what the programs print today."""
    require(agent_clis, agent)
    played = play(CASES[name], agent, agent_stub, agent_clis, tmp_path, f"case-{agent}-{name}")
    recorded = load(agent, name)
    assert played.ran.exit_code == recorded.meta.exit_code, played.ran.stdout + played.ran.stderr
    assert closing(played.ran.lines) == closing(recorded.lines)
    assert len(played.asked) == recorded.meta.requests
    files = sorted(str(path.relative_to(played.work)) for path in played.work.rglob("*") if path.is_file())
    assert files == recorded.meta.files


# The exit code of an agent that is asked to end while it waits for its model, and the signal that the agent heeds. None of them
# prints a closing line: so the code 0 of Gemini is no success.
ASKED_TO_END = {"claude": (signal.SIGTERM, 143), "codex": (signal.SIGTERM, -signal.SIGTERM), "gemini": (signal.SIGTERM, 0)}


@pytest.mark.slow
@each_agent
def test_an_agent_whose_model_never_answers_waits_until_it_is_asked_to_end(
    agent: str, agent_clis: Path, agent_stub: AgentStub, tmp_path: Path
) -> None:
    """No agent has a time limit of its own that a stage could rely upon. The signal goes to the whole group, and nothing of it
    is left."""
    require(agent_clis, agent)
    work, run_id = tmp_path / "work", f"hang-{agent}"
    work.mkdir()
    process = start(agent, Place(agent_clis, tmp_path / "home", work, agent_stub.base_url(run_id, "hang")), Task())
    try:
        eventually(lambda: agent_stub.asked(run_id), within_s=60, what=f"a request of {agent}")
        family = psutil.Process(process.pid).children(recursive=True)
        name, code = ASKED_TO_END[agent]
        os.killpg(process.pid, name)
        ended = ran(process, *process.communicate(timeout=20))
    finally:
        process.kill()
    assert ended.exit_code == code
    assert closing(ended.lines)["type"] not in ("result", "turn.completed", "turn.failed")
    assert psutil.wait_procs(family, timeout=10)[1] == []
    assert [one.answer for one in agent_stub.asked(run_id)] == ["hang"]


@pytest.mark.slow
@each_agent
def test_a_slow_model_is_waited_for(agent: str, agent_clis: Path, agent_stub: AgentStub, tmp_path: Path) -> None:
    """Half a second between the events of a stream is no fault."""
    require(agent_clis, agent)
    work = tmp_path / "work"
    work.mkdir()
    url = agent_stub.base_url(f"slow-{agent}", "slow")
    ended = run(agent, Place(agent_clis, tmp_path / "home", work, url), Task())
    assert ended.exit_code == 0
    assert [one.answer for one in agent_stub.asked(f"slow-{agent}")] == ["slow", 200]
    assert (work / "hello.txt").read_text() == GREETING
