"""Whole runs whose agents are the real programs against the stub of their providers: a repository, a scratch home, the
environment that leads each program to the stub. The engine's own adapters start the programs."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from agent_stub import AgentStub
from whole_runs import Place, Ran

KEY = "sk-stub-4e1f"
"""What the programs get for a key of their provider."""
PROVIDER = {"claude": "anthropic", "codex": "openai", "gemini": "google"}
MODEL = {"claude": "claude-sonnet-4-5", "codex": "gpt-5.5", "gemini": "gemini-2.5-pro"}
_AGENT_NODE = "node [shape=box, max_retries=0] start [shape=Mdiamond] done [shape=Msquare]"


def environment(programs: Path, home: Path, stub: AgentStub, run: str, scenario: str) -> dict[str, str]:
    """Leads all three programs to the stub; their requests are logged there as ``run``."""
    url = stub.base_url(run, scenario)
    home.mkdir(parents=True, exist_ok=True)
    (home / "codex").mkdir(exist_ok=True)
    return {
        "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
        "HOME": str(home),
        "CLAUDE_CONFIG_DIR": str(home / "claude"),
        "ANTHROPIC_BASE_URL": url,
        "ANTHROPIC_API_KEY": KEY,
        "CODEX_HOME": str(home / "codex"),
        "OPENAI_BASE_URL": f"{url}/v1",
        "OPENAI_API_KEY": KEY,
        "GEMINI_CLI_HOME": str(home),
        "GOOGLE_GEMINI_BASE_URL": url,
        "GEMINI_API_KEY": KEY,
    }


@dataclass(frozen=True)
class AgentPlace:
    """Where the pipelines of a test run. ``name`` is the run's name in the log of the stub, ``home`` the programs' home."""

    place: Place
    stub: AgentStub
    name: str
    home: Path

    def runs(self, statements: str, *, graph: str = "", inputs: Mapping[str, str] | None = None, **options: Any) -> Ran:
        """Runs a pipeline of agent nodes, none of which is tried again unless it says so."""
        file = self.place.folder / "pipeline.dot"
        file.write_text(f"digraph g {{ {graph} {_AGENT_NODE} {statements} }}", encoding="utf-8")
        return self.place.carry_out(str(file), None, inputs or {}, logs_root=str(self.place.run.path), **options)

    def asked(self) -> list[int | str]:
        """What the stub answered, request by request."""
        return [one.answer for one in self.stub.asked(self.name)]


def agent_place(
    folder: Path, programs: Path, stub: AgentStub, monkeypatch: pytest.MonkeyPatch, *, scenario: str = "say"
) -> AgentPlace:
    """A repository in ``folder``; this process gets the run's environment. ``scenario`` is for prompts that name none."""
    name = f"{folder.parent.name}-{folder.name}"
    home = folder / "home"
    for variable, value in environment(programs, home, stub, name, scenario).items():
        monkeypatch.setenv(variable, value)
    return AgentPlace(Place(folder, repository(folder / "repo")), stub, name, home)


def repository(folder: Path) -> Path:
    """A repository with one commit."""
    folder.mkdir()
    (folder / "readme.txt").write_text("a project\n", encoding="utf-8")
    identity = ("-c", "user.name=Somebody", "-c", "user.email=somebody@localhost")
    for arguments in (("init", "-q", "-b", "main"), ("add", "-A"), ("commit", "-q", "-m", "begin")):
        subprocess.run(["git", *identity, *arguments], cwd=folder, check=True)
    return folder


def stage(name: str, agent: str, scenario: str, **attributes: str) -> str:
    """The statement of a node that ``agent`` works on, by a scenario of the stub's."""
    written: Mapping[str, str] = {
        "agent_tool": agent,
        "llm_provider": PROVIDER[agent],
        "llm_model": MODEL[agent],
        "prompt": f"[[scenario:{scenario}]] create hello.txt",
        **attributes,
    }
    return f"{name} [" + ", ".join(f"{key}={json.dumps(value)}" for key, value in written.items()) + "]"
