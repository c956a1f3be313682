"""The stub and the programs of the real agents, as fixtures. A ``conftest.py`` that imports them has them.

``make agents`` installs the programs; ``KILROY_AGENT_CLIS`` names another folder of them.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent_stub.server import AgentStub

_INSTALLED = Path(__file__).parents[2] / ".agents" / "bin"
_ALWAYS = ("claude", "codex")


@pytest.fixture(scope="session")
def agent_stub() -> Iterator[AgentStub]:
    """One stub for all tests of a session. A test has its own run, by a word of its own in the base URL."""
    with AgentStub() as stub:
        yield stub


@pytest.fixture(scope="session")
def agent_clis() -> Path:
    """The folder of the programs ``claude``, ``codex`` and ``gemini``. A test says with :func:`require` which it needs."""
    return Path(os.environ.get("KILROY_AGENT_CLIS") or _INSTALLED).resolve()  # agents start in folders of their own


def require(folder: Path, agent: str) -> None:
    """Skips the test where a program is missing. In continuous integration a missing Claude or Codex is a failure: tests that
    nobody notices to be skipped hold nothing. Gemini comes from npm, which not every machine can reach."""
    if os.access(folder / agent, os.X_OK):
        return
    text = f"no program {agent} in {folder}: run `make agents`, or name a folder in KILROY_AGENT_CLIS"
    if os.environ.get("CI") == "true" and agent in _ALWAYS:
        pytest.fail(text)
    pytest.skip(text)
