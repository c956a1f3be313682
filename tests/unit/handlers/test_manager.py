"""Nodes that run a child pipeline: what they ask the engine for, and what a manager says to its child's agents."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from kilroy_engine.agents.base import AgentRequest, AgentResult
from kilroy_engine.handlers.base import StageRequest, Supervise
from kilroy_engine.handlers.manager import ManagerHandler, run_pipeline
from kilroy_engine.handlers.prompt import assemble_prompt
from kilroy_engine.handlers.registry import HandlerRegistry, no_agent
from kilroy_engine.processes.stage_status import status_contract
from kilroy_engine.settings.table import RunSettings
from kilroy_engine.traversal.outcome import Outcome
from kilroy_engine.traversal.supervision import ChildFacts, ChildStatus, Supervision

Requests = Callable[..., StageRequest]
SEEN = ChildFacts(ChildStatus.RUNNING, "build", completed_count=2, failed_count=1, failure_reason="exit 1")


@dataclass
class Advisor:
    """An agent that gives the same advice each time and keeps what it was asked."""

    asked: list[AgentRequest] = field(default_factory=list[AgentRequest])

    def run(self, request: AgentRequest, /) -> AgentResult:
        self.asked.append(request)
        return AgentResult("Mend the test first.")


def supervised(request: StageRequest, advisor: Advisor | None = None) -> Supervise:
    result = ManagerHandler(lambda node: advisor)(request)
    assert isinstance(result, Supervise)
    return result


def test_a_nested_pipeline_is_run_and_waited_for(request_for: Requests) -> None:
    """No cycles, no guidance; the attempt's limit goes with it."""
    asked = run_pipeline(request_for('a [shape=folder, dot_file=" c.dot "]', timeout_s=30.0))
    assert asked == Supervise("c.dot", timeout_s=30.0)


def test_a_manager_asks_for_cycles(request_for: Requests) -> None:
    """The plan is the node's, the file the graph's before the node's (Spec 4.11, Kilroy)."""
    statements = "stack.child_dotfile=g a [shape=house, stack.child_dotfile=n, manager.max_cycles=7]"
    asked = supervised(request_for(statements))
    assert (asked.child_file, asked.plan, asked.guide) == ("g", Supervision(max_cycles=7), None)


def test_a_manager_that_does_not_start_its_child_only_watches(request_for: Requests) -> None:
    """``stack.child_autostart=false``: the file is nobody's to run here."""
    asked = supervised(request_for('a [shape=house, stack.child_dotfile="c.dot", stack.child_autostart=false]'))
    assert asked.child_file == ""


@pytest.mark.parametrize("statements", ["a [shape=house]", "a [shape=folder]"])
def test_a_node_without_a_child_file_fails(request_for: Requests, statements: str) -> None:
    """Kilroy: an automatic start needs something to start."""
    request = request_for(statements)
    result = HandlerRegistry(no_agent).resolve(request.node)(request)
    assert isinstance(result, Outcome)
    assert result.failed


def test_guidance_without_an_agent_is_the_prompt_below_what_is_seen(request_for: Requests) -> None:
    """Nothing is made up; a simulated run asks no agent either."""
    statements = 'a [shape=house, stack.child_dotfile=c, manager.actions="observe,steer", prompt="Keep it small."]'
    for asked in (
        supervised(request_for(statements)),
        supervised(request_for(statements, settings=RunSettings(simulate=True)), Advisor()),
    ):
        assert asked.guide is not None
        text = asked.guide(SEEN)
        assert text.endswith("Keep it small.\n")
        assert "at work on: build" in text
        assert "last failure: exit 1" in text


def test_an_agent_writes_the_guidance_where_there_is_one(request_for: Requests) -> None:
    """It is told what is seen, and what it was asked and answered stays in the manager's stage directory."""
    advisor = Advisor()
    request = request_for('a [shape=house, stack.child_dotfile=c, manager.actions=steer, prompt="Advise."]')
    asked = supervised(request, advisor)
    assert asked.guide is not None
    assert asked.guide(SEEN) == "Mend the test first."
    (question,) = advisor.asked
    assert "stages completed: 2" in question.prompt
    assert "Advise." in question.prompt
    assert (request.stage_dir / "prompt.md").read_text() == question.prompt
    assert (request.stage_dir / "response.md").read_text() == "Mend the test first."


def test_agents_of_the_child_are_told_the_guidance(request_for: Requests) -> None:
    """As a block of its own above the task; none where the manager says nothing."""
    guided = request_for('a [prompt="Build it."]', guidance="Keep it small.\n")
    contract = status_contract("R1", guided.work_dir)
    assert "GUIDANCE" in assemble_prompt(guided, contract)
    assert assemble_prompt(guided, contract).index("Keep it small.") < assemble_prompt(guided, contract).index("Build it.")
    assert "GUIDANCE" not in assemble_prompt(request_for('a [prompt="Build it."]'), contract)
