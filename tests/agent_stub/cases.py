"""What is tried with every agent, and recorded in ``tests/data/agents``."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from agent_stub.command_lines import AGENTS, UNKNOWN_SESSION, Place, Ran, Task, run
from agent_stub.scenarios import HTTP_FAULTS
from agent_stub.server import AgentStub, Asked

ALL = tuple(AGENTS)
_TASK = Task()
SECOND_PROMPT = "what did you do?"


@dataclass(frozen=True)
class Case:
    """A run of ``task`` with ``scenario``. ``after`` is a scenario that runs before, whose session the task resumes
    unless it names another one."""

    scenario: str
    task: Task = _TASK
    agents: tuple[str, ...] = ALL
    after: str = ""


@dataclass(frozen=True)
class Played:
    """What became of a case: how the agent ended, what it asked, the folder that it worked in."""

    ran: Ran
    asked: list[Asked]
    work: Path


_SCENARIOS = (
    "say",
    "write",
    "shell",
    "two",
    "failing-tool",
    "unknown-tool",
    "late500",
    "cut",
    "cut-once",
    "sse-error",
    "quota",
    "plan",
    "credit",
)

CASES: dict[str, Case] = {name: Case(name) for name in _SCENARIOS}
CASES |= {f"http{status}": Case(f"http{status}") for status in HTTP_FAULTS}
CASES |= {f"flaky{status}": Case(f"flaky{status}") for status in (429, 500)}
CASES |= {
    "plan": Case("plan", Task(subscription=True), ("claude", "codex")),
    "write-partial": Case("write", Task(streamed=True), ("claude",)),
    # Gemini without permission offers no tools that write.
    "denied": Case("write", Task(allowed=False), ("claude", "codex")),
    "resume": Case("say", Task(SECOND_PROMPT), after="write"),
    "resume-unknown": Case("say", Task(SECOND_PROMPT, resume=UNKNOWN_SESSION), after="say"),
    "resume-nothing": Case("say", Task(SECOND_PROMPT, resume=UNKNOWN_SESSION)),
    "max-turns": Case("write", Task(max_turns=1), ("claude", "gemini")),
    "budget": Case("write", Task(budget_usd=0.001), ("claude",)),
}


def play(case: Case, agent: str, stub: AgentStub, programs: Path, folder: Path, run_id: str) -> Played:
    """Runs the case in ``folder``, which becomes the agent's home and work folder."""
    work = folder / "work"
    work.mkdir(parents=True)
    home = folder / "home"
    task = case.task
    if case.after:
        first = run(agent, Place(programs, home, work, stub.base_url(f"{run_id}-before", case.after)), Task())
        assert first.exit_code == 0, f"{agent}: nothing to resume: {first.stdout[-500:]} {first.stderr[-500:]}"
        task = replace(task, resume=task.resume or first.session)
    ended = run(agent, Place(programs, home, work, stub.base_url(run_id, case.scenario)), task)
    return Played(ended, stub.asked(run_id), work)
