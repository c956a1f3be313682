"""Agents by name, and the one that does nothing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from kilroy_engine.agents.base import AgentRequest
from kilroy_engine.agents.registry import agent_names, named_agent
from kilroy_engine.agents.simulate import SimulatedAgent
from kilroy_engine.errors import InvalidInput, SessionLost
from kilroy_engine.graph.model import Node, Position
from kilroy_engine.plugins import plugins


@pytest.fixture
def distribution(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An installed distribution ``demo-agents`` 3.4 that brings agents."""
    site = tmp_path / "site"
    info = site / "demo_agents-3.4.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: demo-agents\nVersion: 3.4\n")
    (info / "entry_points.txt").write_text(
        "[kilroy_engine.agents]\necho = demo_agents:Echo\nbroken = demo_agents:nothing\nnumber = demo_agents:number\n"
    )
    (site / "demo_agents.py").write_text(
        "from kilroy_engine import AgentResult\n"
        "number = 42\n"
        "class Echo:\n    def run(self, request, /):\n        return AgentResult(request.prompt)\n"
    )
    monkeypatch.syspath_prepend(str(site))
    plugins.cache_clear()
    yield
    plugins.cache_clear()


def request(tmp_path: Path, **changes: object) -> AgentRequest:
    """A task for node ``plan``."""
    return AgentRequest(Node("plan", Position(1, 1)), "Plan it.", tmp_path, tmp_path, **changes)  # type: ignore[arg-type]


def test_the_simulated_agent_always_answers_the_same(tmp_path: Path) -> None:
    """Spec 4.5's text; success, and notes that nobody mistakes for work done."""
    lines: list[tuple[str, str]] = []
    agent = named_agent("simulate")
    results = [agent.run(request(tmp_path, output=lambda stream, line: lines.append((stream, line)))) for _ in range(2)]

    assert isinstance(agent, SimulatedAgent)
    assert results[0] == results[1]
    assert results[0].response == "[Simulated] Response for stage: plan"
    assert results[0].outcome is not None
    assert (results[0].outcome.status, results[0].outcome.notes) == ("success", "simulated: no agent has worked on plan")
    assert lines == [("stdout", "[Simulated] Response for stage: plan")] * 2


def test_an_unknown_agent_is_an_error_that_names_the_known_ones() -> None:
    """The name of the setting comes with it."""
    with pytest.raises(InvalidInput, match=r'there is no agent "cluade"; known agents are .*simulate') as caught:
        named_agent("cluade")
    assert caught.value.name == "agent"


@pytest.mark.usefixtures("distribution")
class TestPlugins:
    """Agents by entry point."""

    def test_an_agent_of_another_distribution_works(self, tmp_path: Path) -> None:
        """Found by its name."""
        assert "echo" in agent_names()
        assert named_agent("echo").run(request(tmp_path)).response == "Plan it."

    @pytest.mark.parametrize(("name", "reason"), [("broken", "cannot be loaded: AttributeError"), ("number", "has no run")])
    def test_a_broken_one_names_its_distribution(self, name: str, reason: str) -> None:
        """So that a person knows what to mend or remove."""
        with pytest.raises(InvalidInput, match=f'agent "{name}" of demo-agents 3.4 .*{reason}'):
            named_agent(name)


def test_a_simulated_session_counts_the_tasks_of_its_thread(tmp_path: Path) -> None:
    """So that a test can see what went on with what; without a thread there is no session."""
    agent = SimulatedAgent()
    assert agent.run(request(tmp_path)).session == ""
    first = agent.run(request(tmp_path, thread="a:b")).session
    assert first == "simulated:1:a:b"
    assert agent.run(request(tmp_path, thread="a:b", session=first)).session == "simulated:2:a:b"


@pytest.mark.parametrize("session", ["simulated:1:other", "claude:1:impl", "simulated:x:impl", "s-1"])
def test_a_session_of_somebody_else_is_lost(tmp_path: Path, session: str) -> None:
    """Another agent's, another thread's: it is not gone on with."""
    with pytest.raises(SessionLost, match=f"session {session} is none of thread impl"):
        SimulatedAgent().run(request(tmp_path, thread="impl", session=session))
