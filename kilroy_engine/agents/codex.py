"""Codex: ``codex exec --json``."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator, Mapping
from pathlib import Path

from kilroy_engine.agents.base import AgentRequest
from kilroy_engine.agents.running.lines import child, children, count, first_line, read_record, text
from kilroy_engine.agents.running.program import Invocation
from kilroy_engine.agents.running.reports import (
    Closed,
    Report,
    Retried,
    Said,
    SessionBegan,
    SessionTotals,
    Tokens,
    ToolEnded,
    ToolStarted,
    Trouble,
    TurnEnded,
)
from kilroy_engine.agents.running.session import Session
from kilroy_engine.agents.running.sign_in import Found, SignIn, first_set, home_of, mentions

OPENAI_API = "https://api.openai.com/v1"
_PROVIDER = "kilroy"
_TOOLS = frozenset({"command_execution", "file_change", "mcp_tool_call", "web_search"})
_RETRIES = 1
"""Of a request and of a stream: the two multiply, and a stage has its own retries."""

_KEYS = ("OPENAI_API_KEY", "CODEX_API_KEY")


class Codex:
    """The adapter for Codex."""

    name = "codex"
    executable = "codex"
    provider = "openai"
    variables: frozenset[str] = frozenset({"OPENAI_API_KEY", "OPENAI_BASE_URL", "CODEX_API_KEY", "CODEX_HOME"})
    keys: tuple[str, ...] = _KEYS
    stop_signal = signal.SIGINT
    grace_s = 3.0
    tested: tuple[str, ...] = ("0.163.0", "0.171.0")

    def invocation(self, request: AgentRequest, session: Session, private: Path, /) -> Invocation:
        # fmt: off
        argv = [self.executable, "exec", *(("resume",) if session.name else ()), "--json", "--skip-git-repo-check"]
        # fmt: on
        settings = {
            "sandbox_mode": "workspace-write",
            "sandbox_workspace_write.network_access": True,
            # Its sandbox lays empty folders (.git, .codex, .agents) into each folder that may be written, and takes them away
            # again. In a folder that several agents share they take away each other's, or leave a /tmp/.git. It has its TMPDIR.
            "sandbox_workspace_write.exclude_slash_tmp": True,
            "approval_policy": "never",
            "check_for_update_on_startup": False,
            "analytics.enabled": False,
            **_provider(request.environment),
        }
        if request.effort:
            settings["model_reasoning_effort"] = request.effort
        if request.model:
            argv += ["-m", request.model]
        for key, value in settings.items():
            argv += ["-c", f"{key}={json.dumps(value)}"]  # a value in TOML's form, which JSON's is for texts, numbers, switches
        if session.name:
            argv += [session.name]
        elif not request.thread:
            argv += ["--ephemeral"]
        return Invocation((*argv, "-"))

    def transcript(self) -> CodexTranscript:
        return CodexTranscript()

    def sign_in(self, environment: Mapping[str, str], folder: Path, /) -> SignIn:
        if key := first_set(_KEYS, environment):
            return SignIn(Found.YES, key)
        home = home_of(environment, "CODEX_HOME", ".codex")
        login = home / "auth.json"
        if login.is_file():
            return SignIn(Found.YES, f"the login in {login}")
        missing = f"{' and '.join(_KEYS)} are not set and {login} does not exist; set a key, or log in with `codex login`"
        # Of a provider that its settings name, the program's answer says nothing: such a one has a key of its own.
        own_provider = any(mentions(at / "config.toml", "model_provider", "oss_provider") for at in (home, folder / ".codex"))
        return SignIn(Found.UNKNOWN, missing, ask=() if own_provider else ("login", "status"))

    def reads_sign_in(self, exit_code: int, stdout: str, stderr: str, /) -> Found:
        if exit_code == 0 and "Logged in" in stdout + stderr:
            return Found.YES
        return Found.NO if "Not logged in" in stdout + stderr else Found.UNKNOWN


def _provider(environment: Mapping[str, str]) -> dict[str, object]:
    """With a key in the environment: a provider that uses it, since the program itself looks at its login only.

    Without one the program's own login and provider stay as they are.
    """
    if not environment.get("OPENAI_API_KEY"):
        return {}
    about_it: dict[str, object] = {
        "name": _PROVIDER,
        "base_url": environment.get("OPENAI_BASE_URL") or OPENAI_API,
        "env_key": "OPENAI_API_KEY",
        "wire_api": "responses",
        "request_max_retries": _RETRIES,
        "stream_max_retries": _RETRIES,
    }
    return {"model_provider": _PROVIDER, **{f"model_providers.{_PROVIDER}.{key}": value for key, value in about_it.items()}}


class CodexTranscript:
    """Reads the lines of ``--json``. Usage comes once, at the end of the turn, as the total of the whole thread."""

    def __init__(self) -> None:
        self._response = ""
        self._tool_calls = 0
        self._text_length = 0

    def read(self, line: str, /) -> Iterator[Report]:
        record = read_record(line)
        if record is None:
            yield Said(line)
            return
        match text(record, "type"):
            case "thread.started":
                yield SessionBegan(text(record, "thread_id"))
            case "item.started":
                yield from self._started(child(record, "item"))
            case "item.completed":
                yield from self._completed(child(record, "item"))
            case "error":
                yield _error(text(record, "message"))
            case "turn.completed":
                usage = child(record, "usage")
                cached = count(usage, "cached_input_tokens")
                yield TurnEnded(self._text_length, self._tool_calls)
                yield SessionTotals(Tokens(count(usage, "input_tokens"), count(usage, "output_tokens"), cached))
                yield Closed(self._response)
            case "turn.failed":
                yield Closed(self._response, Trouble(_message(text(child(record, "error"), "message"))))
            case _:
                return

    def end(self, exit_code: int, stderr: str, /) -> Closed | Trouble | None:
        del exit_code
        # An unknown thread is told on standard error alone.
        if "no rollout found" in stderr or "thread/resume failed" in stderr:
            return Trouble(next(line for line in stderr.splitlines() if "rollout" in line or "resume" in line), lost=True)
        return None

    def _started(self, item: Mapping[str, object]) -> Iterator[Report]:
        if text(item, "type") in _TOOLS:
            yield ToolStarted(text(item, "id"), text(item, "type"), _about(item))

    def _completed(self, item: Mapping[str, object]) -> Iterator[Report]:
        kind, call_id = text(item, "type"), text(item, "id")
        match kind:
            case "agent_message":
                self._response = text(item, "text")
                self._text_length += len(self._response)
                yield Said(self._response)
            case _ if kind in _TOOLS:
                self._tool_calls += 1
                failed = text(item, "status") in {"failed", "declined"}
                yield ToolEnded(call_id, kind, failed, first_line(text(item, "aggregated_output")))
            case "error":
                yield Said(text(item, "message"))
            case _:
                return


def _error(message: str) -> Report:
    """An error line is a retry that is told, or the reason of a failure that follows."""
    return Retried(_message(message)) if message.startswith("Reconnecting") else Trouble(_message(message))


def _message(words: str) -> str:
    """Some errors are the provider's JSON: its message is what people read."""
    record = read_record(words.strip())
    if record is None:
        return words
    error = child(record, "error")
    status = count(record, "status")
    parts = (str(status) if status else "", text(error, "code") or text(error, "type"), text(error, "message") or words)
    return " ".join(part for part in parts if part)


def _about(item: Mapping[str, object]) -> str:
    paths = ", ".join(text(change, "path") for change in children(item, "changes"))
    words = (text(item, "command"), paths, text(item, "query"), text(item, "tool"))
    return next((first_line(part) for part in words if part), "")
