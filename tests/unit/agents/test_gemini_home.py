"""The home that a call of Gemini CLI gets: the user's own, with a few settings of the engine's over theirs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from kilroy_engine.agents.base import AgentLimits, AgentRequest
from kilroy_engine.agents.gemini import Gemini
from kilroy_engine.agents.running.session import Session
from kilroy_engine.graph.model import Node, Position


@pytest.fixture
def users(tmp_path: Path) -> Path:
    """The user's ``.gemini``."""
    folder = tmp_path / "user" / ".gemini"
    folder.mkdir(parents=True)
    return folder


def home_of_a_call(users: Path, private: Path, *, turns: int | None = None, **environment: str) -> Path:
    """The ``.gemini`` that a call works with."""
    private.mkdir()
    request = AgentRequest(
        Node("plan", Position(1, 1)),
        "Plan it.",
        private,
        private,
        environment={"HOME": str(users.parent), **environment},
        limits=AgentLimits(turns=turns),
    )
    call = Gemini().invocation(request, Session("gemini"), private)
    return Path(call.environment["GEMINI_CLI_HOME"]) / ".gemini"


def settings_of(home: Path) -> dict[str, Any]:
    return json.loads((home / "settings.json").read_text())


def test_the_users_settings_stay_where_the_engine_has_none(users: Path, tmp_path: Path) -> None:
    """Theirs may have comments, as the program allows; a ``//`` in a text is none. Their file is as it was."""
    written = '{\n  // mine\n  "ui": {"theme": "a//b"}, "general": {"vimMode": true, "maxAttempts": 10} /* end */\n}'
    (users / "settings.json").write_text(written)
    found = settings_of(home_of_a_call(users, tmp_path / "private", turns=3))
    assert found["ui"] == {"theme": "a//b"}
    assert found["general"]["vimMode"] is True
    assert found["general"]["maxAttempts"] == 2
    assert found["model"] == {"maxSessionTurns": 3}
    assert "security" not in found
    assert (users / "settings.json").read_text() == written


def test_all_else_in_the_home_is_the_users_own(users: Path, tmp_path: Path) -> None:
    """A login that the program renews is renewed in the user's file; conversations outlive the call."""
    (users / "oauth_creds.json").write_text("old")
    home = home_of_a_call(users, tmp_path / "private")
    (home / "oauth_creds.json").write_text("new")
    (home / "tmp" / "chat.json").write_text("hello")
    assert (users / "oauth_creds.json").read_text() == "new"
    assert (users / "tmp" / "chat.json").read_text() == "hello"


def test_a_key_says_how_to_log_in(users: Path, tmp_path: Path) -> None:
    """With an address of the API's and a key, the program would choose a way to log in that it then refuses."""
    home = home_of_a_call(users, tmp_path / "private", GEMINI_API_KEY="key")
    assert settings_of(home)["security"] == {"auth": {"selectedType": "gemini-api-key"}}
    assert "key" not in (home / "settings.json").read_text().replace("gemini-api-key", "")


def test_settings_that_cannot_be_read_are_left_to_the_program(users: Path, tmp_path: Path) -> None:
    """It says what is wrong with them, and where."""
    (users / "settings.json").write_text("{ broken")
    home = home_of_a_call(users, tmp_path / "private")
    assert (home / "settings.json").resolve() == (users / "settings.json").resolve()
