"""Looking at agent programs: their versions, and what gives them access to their providers.

What variables and files mean was found out with the real programs in an empty home: Claude Code 2.1.332 (`claude auth status`),
Codex 0.163.0 (`codex login status`, and a request with CODEX_API_KEY), Gemini CLI 0.61.0 (exit code 41 without a login).
"""

from __future__ import annotations

from pathlib import Path

import pytest

from kilroy_engine.agents.claude import Claude
from kilroy_engine.agents.codex import Codex
from kilroy_engine.agents.command import CommandAgent
from kilroy_engine.agents.gemini import Gemini
from kilroy_engine.agents.running.looking import is_tested, path_of, sign_in_of, version_of
from kilroy_engine.agents.running.program import Program
from kilroy_engine.agents.running.sign_in import Found

CLAUDE_IN = '{\n  "loggedIn": true,\n  "authMethod": "claude.ai"\n}'
CLAUDE_OUT = '{\n  "loggedIn": false,\n  "authMethod": "none"\n}'
CODEX_OUT = "WARNING: proceeding\nNot logged in"
"""As the programs print it; Codex on standard error, with exit code 1."""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """An empty home with a folder ``bin`` for programs."""
    (tmp_path / "bin").mkdir()
    return tmp_path


def environment(home: Path, **variables: str) -> dict[str, str]:
    return {"HOME": str(home), "PATH": f"{home / 'bin'}:/usr/bin:/bin", **variables}


def script(home: Path, name: str, body: str) -> None:
    """A program that answers as ``body`` says."""
    program = home / "bin" / name
    program.write_text(f"#!/bin/sh\n{body}\n")
    program.chmod(0o755)


def found(program: Program, home: Path, **variables: str) -> tuple[Found, str]:
    known = sign_in_of(program, environment(home, **variables), home)
    return known.found, known.by


@pytest.mark.parametrize(
    ("program", "variables", "by"),
    [
        (Claude(), {"ANTHROPIC_API_KEY": "k"}, "ANTHROPIC_API_KEY"),
        (Claude(), {"CLAUDE_CODE_OAUTH_TOKEN": "k"}, "CLAUDE_CODE_OAUTH_TOKEN"),
        (Codex(), {"OPENAI_API_KEY": "k"}, "OPENAI_API_KEY"),
        (Codex(), {"CODEX_API_KEY": "k"}, "CODEX_API_KEY"),
        (Gemini(), {"GEMINI_API_KEY": "k"}, "GEMINI_API_KEY"),
    ],
)
def test_a_key_in_the_environment_is_access(home: Path, program: Program, variables: dict[str, str], by: str) -> None:
    """No program is started to know it: none is there."""
    assert found(program, home, **variables) == (Found.YES, by)


@pytest.mark.parametrize(
    ("program", "file", "content"),
    [
        (Claude(), ".claude/.credentials.json", "{}"),
        (Codex(), ".codex/auth.json", "{}"),
        (Gemini(), ".gemini/oauth_creds.json", "{}"),
    ],
)
def test_a_login_is_access(home: Path, program: Program, file: str, content: str) -> None:
    """Each program keeps its login in a file of its own; Gemini CLI wants a setting that chooses it too."""
    (home / file).parent.mkdir()
    (home / file).write_text(content)
    if isinstance(program, Gemini):
        assert found(program, home)[0] is Found.NO
        (home / ".gemini/settings.json").write_text('{"security": {"auth": {"selectedType": "oauth-personal"}}}')
    assert found(program, home) == (Found.YES, f"the login in {home / file}")


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (f"cat <<'X'\n{CLAUDE_IN}\nX", Found.YES),
        (f"cat <<'X'\n{CLAUDE_OUT}\nX\nexit 1", Found.NO),
        ("echo unknown command auth >&2; exit 1", Found.UNKNOWN),
        ("exit 0", Found.UNKNOWN),
    ],
)
def test_claude_is_asked_where_no_file_decides(home: Path, body: str, expected: Found) -> None:
    """A key chain or a helper may give access: the program's own word counts, and a version without that word says nothing."""
    script(home, "claude", body)
    assert found(Claude(), home)[0] is expected


def test_codex_is_asked_but_not_where_its_settings_name_a_provider(home: Path) -> None:
    """`codex login status` speaks of OpenAI's login alone; a provider of the user's own has a key of its own."""
    script(home, "codex", f"cat >&2 <<'X'\n{CODEX_OUT}\nX\nexit 1")
    assert found(Codex(), home)[0] is Found.NO
    (home / ".codex").mkdir()
    (home / ".codex/config.toml").write_text('model_provider = "mine"\n')
    assert found(Codex(), home)[0] is Found.UNKNOWN


@pytest.mark.parametrize(
    ("file", "content"),
    [
        (".env", "GEMINI_API_KEY=k"),
        (".gemini/.env", "GEMINI_API_KEY=k"),
        (".gemini/settings.json", '{"selectedType": "gateway"}'),
    ],
)
def test_gemini_without_a_way_to_log_in_surely_fails(home: Path, file: str, content: str) -> None:
    """Unless one of the files that it reads may name one."""
    assert found(Gemini(), home)[0] is Found.NO
    (home / file).parent.mkdir(exist_ok=True)
    (home / file).write_text(content)
    assert found(Gemini(), home)[0] is Found.UNKNOWN


def test_of_any_other_command_nothing_is_known(home: Path) -> None:
    """What it needs is its own affair."""
    assert found(CommandAgent("aider --yes"), home)[0] is Found.NOT_LOOKED_FOR


def test_a_program_says_its_version(home: Path) -> None:
    """The first number with a dot in what it prints; empty where it fails, prints none or is not there."""
    assert path_of(Codex(), environment(home)) == version_of(Codex(), environment(home), home) == ""
    script(home, "codex", "echo codex-cli 0.163.0")
    script(home, "claude", "echo '2.1.332 (Claude Code)'; exit 3")
    script(home, "gemini", "echo hello")
    assert path_of(Codex(), environment(home)) == str(home / "bin/codex")
    assert [version_of(program, environment(home), home) for program in (Codex(), Claude(), Gemini())] == ["0.163.0", "", ""]


@pytest.mark.parametrize(
    ("version", "tested"),
    [("2.1.196", False), ("2.1.197", True), ("2.1.200", True), ("2.1.332", True), ("2.2", False), ("", False)],
)
def test_versions_between_the_tested_ones_count_as_tested(version: str, tested: bool) -> None:
    """Compared number by number, ends included."""
    assert is_tested(Claude(), version) is tested
