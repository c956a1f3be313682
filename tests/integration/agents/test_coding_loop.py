"""The coding loop that comes with the project: ``make demo-agents``, and with a real agent."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from agent_runs import agent_place
from agent_stub import AgentStub, Call, Scenario, Turn
from agent_stub.fixtures import require
from real_prefect import ROOT, Prefect

PIPELINE = ROOT / "flows" / "pipelines" / "coding-loop.dot"


def test_the_demo_plans_fails_a_test_mends_and_is_approved(prefect: Prefect, tmp_path: Path) -> None:
    """What a person sees in a fresh clone: all stages in their order, the failing test among them, a commit for each, and the
    function in the last one."""
    shutil.copytree(ROOT / "examples", tmp_path / "examples", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "flows", tmp_path / "flows", ignore=shutil.ignore_patterns("__pycache__"))
    done = subprocess.run(
        [sys.executable, tmp_path / "examples" / "demo_agents.py"],
        cwd=tmp_path,
        env=prefect.environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    table = done.stdout.partition("The stages:")[2].partition("The commits")[0]
    assert [tuple(line.split()[:2]) for line in table.splitlines() if line.strip()] == [
        ("start", "success"), ("plan", "success"), ("implement", "success"),
        ("test", "fail"), ("passed", "success"), ("fix", "success"), ("test", "success"), ("passed", "success"),
        ("review", "success"), ("done", "success"),
    ]  # fmt: skip
    branch = re.search(r"The commits of (\S+):", done.stdout)
    assert branch
    git = ("git", "show", f"{branch[1]}:textstats/__init__.py")
    source = subprocess.run(git, cwd=tmp_path / ".demo" / "textstats-agents", capture_output=True, text=True, check=True).stdout
    assert "def longest_word" in source
    assert "nothing: the scripted agent has no model" in done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("agent", ["claude", "codex", "gemini"])
def test_the_loop_works_with_real_agents(
    agent: str, agent_clis: Path, agent_stub: AgentStub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its stages share a session and name no agent: whoever is asked for does them all."""
    require(agent_clis, agent)
    status = Call("status", {"status": {"status": "success", "preferred_label": "approve"}})
    agent_stub.add("approve", Scenario((Turn("I report.", (status,)), Turn("Reported."))))
    place = agent_place(tmp_path, agent_clis, agent_stub, monkeypatch, scenario="approve").place
    inputs = {"task": "Add a file", "test_command": "true"}
    ran = place.carry_out(str(PIPELINE), None, inputs, logs_root=str(place.run.path), agent=agent)
    assert ran.end == ("success", "")
    assert ran.completed == ("start", "plan", "implement", "test", "passed", "review", "done")
    assert ran.events("warning") == []
