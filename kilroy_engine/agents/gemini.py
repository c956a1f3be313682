"""Gemini CLI: ``gemini --output-format stream-json``."""

from __future__ import annotations

import json
import re
import signal
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import cast

from kilroy_engine.agents.base import AgentRequest
from kilroy_engine.agents.running.lines import about, child, count, first_line, read_record, text
from kilroy_engine.agents.running.program import Invocation
from kilroy_engine.agents.running.reports import (
    Closed,
    Report,
    Said,
    SessionBegan,
    Tokens,
    ToolEnded,
    ToolStarted,
    Trouble,
    TurnEnded,
    Used,
)
from kilroy_engine.agents.running.session import Session
from kilroy_engine.agents.running.sign_in import Found, SignIn, home_of, mentions

REQUEST_ATTEMPTS = 2
"""How often the program asks for one answer. Its own default is ten, which takes four minutes; a stage has its own retries."""
DEFAULT_MODEL = "gemini-2.5-pro"
"""Without a model the program asks a smaller one first which to take."""
_FOLDER, _SETTINGS, _CONVERSATIONS, _SKILLS = ".gemini", "settings.json", "tmp", ".agents"
_OF_A_CALL = frozenset({_SETTINGS, "projects.json", "projects.json.lock"})
"""What a call has for itself. The list of projects is replaced, not written, so a link to it would not last; the program finds
the conversations of a folder without it."""
_COMMENT = re.compile(r'("(?:\\.|[^"\\])*")|//[^\n]*|/\*.*?\*/', re.DOTALL)
_NO_SESSION = 42
_EXIT_CODES = {41: "authentication failed: not logged in", 42: "it does not know the session", 55: "the folder is not trusted"}
_OVERLOADED = 529
_WAYS = ("GOOGLE_GENAI_USE_VERTEXAI", "GOOGLE_GENAI_USE_GCA")
"""Variables that choose a way to log in when they are ``true``."""
_DEFAULTS = Path("/etc/gemini-cli/system-defaults.json")


class Gemini:
    """The adapter for Gemini CLI."""

    name = "gemini"
    executable = "gemini"
    provider = "google"
    variables: frozenset[str] = frozenset(
        {
            "GEMINI_API_KEY",
            "GOOGLE_API_KEY",
            "GOOGLE_GEMINI_BASE_URL",
            "GEMINI_CLI_HOME",
            "GOOGLE_GENAI_USE_VERTEXAI",
            "GOOGLE_GENAI_USE_GCA",
            "GOOGLE_CLOUD_PROJECT",
            "GOOGLE_CLOUD_LOCATION",
            "GOOGLE_APPLICATION_CREDENTIALS",
        }
    )
    keys: tuple[str, ...] = ("GEMINI_API_KEY", "GOOGLE_API_KEY")
    stop_signal = signal.SIGTERM
    grace_s = 2.0
    tested: tuple[str, ...] = ("0.61.0",)

    def invocation(self, request: AgentRequest, session: Session, private: Path, /) -> Invocation:
        home = _home(request.environment, private, _settings(request.environment, request.limits.turns))
        argv = [self.executable, "--output-format", "stream-json", "--yolo", "--skip-trust"]
        argv += ["-m", request.model or DEFAULT_MODEL]
        if session.name:
            argv += ["--resume", session.name]
        environment = {
            "GEMINI_CLI_HOME": str(home),
            # Else a launcher stands between us and the program, which takes no signal.
            "GEMINI_CLI_NO_RELAUNCH": "true",
        }
        return Invocation(tuple(argv), environment)

    def transcript(self) -> GeminiTranscript:
        return GeminiTranscript()

    def sign_in(self, environment: Mapping[str, str], folder: Path, /) -> SignIn:
        """Without a way to log in that a variable or a setting names the program ends at once, with exit code 41."""
        if environment.get("GEMINI_API_KEY", "").strip():
            return SignIn(Found.YES, "GEMINI_API_KEY")
        if way := next((name for name in _WAYS if environment.get(name) == "true"), ""):
            return SignIn(Found.UNKNOWN, f"{way} is set; whether that login works is known to the program alone")
        if environment.get("GOOGLE_GEMINI_BASE_URL"):
            return SignIn(Found.UNKNOWN, "GOOGLE_GEMINI_BASE_URL is set, and no GEMINI_API_KEY")
        home = home_of(environment, "GEMINI_CLI_HOME", ".") / ".gemini"
        settings = home / "settings.json"
        if mentions(settings, "selectedType") and (home / "oauth_creds.json").is_file():
            return SignIn(Found.YES, f"the login in {home / 'oauth_creds.json'}")
        missing = f"GEMINI_API_KEY is not set and {settings} chooses no login; set the key, or log in by starting `gemini` once"
        return SignIn(Found.UNKNOWN if _may_be_set_in_a_file(home, folder) else Found.NO, missing)

    def reads_sign_in(self, exit_code: int, stdout: str, stderr: str, /) -> Found:
        return Found.UNKNOWN  # it has no such question


def _settings(environment: Mapping[str, str], turns: int | None) -> dict[str, object]:
    settings: dict[str, object] = {
        "general": {"enableAutoUpdate": False, "maxAttempts": REQUEST_ATTEMPTS},
        **({"model": {"maxSessionTurns": turns}} if turns else {}),
        "privacy": {"usageStatisticsEnabled": False},
        "telemetry": {"enabled": False},
    }
    if environment.get("GEMINI_API_KEY"):
        # With an address of the API's and without this it chooses a way to log in that it then refuses.
        settings["security"] = {"auth": {"selectedType": "gemini-api-key"}}
    return settings


def _home(environment: Mapping[str, str], private: Path, settings: Mapping[str, object]) -> Path:
    """A home for one call, with ``settings`` over the user's own, which stay as they are. All else in it is the user's: links.

    Settings of the system cannot be ours: the program takes them only from folders that are root's and nobody else can write.
    """
    users = Path(environment.get("GEMINI_CLI_HOME") or environment.get("HOME") or Path.home())
    home = private / "home"
    folder = home / _FOLDER
    folder.mkdir(parents=True)
    (users / _FOLDER / _CONVERSATIONS).mkdir(parents=True, exist_ok=True)  # so that there is something to link to
    for entry in (users / _FOLDER).iterdir():
        if entry.name not in _OF_A_CALL:
            (folder / entry.name).symlink_to(entry)
    if (users / _SKILLS).is_dir():
        (home / _SKILLS).symlink_to(users / _SKILLS)
    own = folder / _SETTINGS
    try:
        own.write_text(json.dumps(_merged(_read_settings(users / _FOLDER / _SETTINGS), settings)), encoding="utf-8")
    except ValueError:
        own.symlink_to(users / _FOLDER / _SETTINGS)  # the program says what is wrong with them
    return home


def _read_settings(path: Path) -> Mapping[str, object]:
    """The user's settings, which may have comments; none where there is no file.

    Raises:
        ValueError: It holds something else.
    """
    if not path.is_file():
        return {}
    value: object = json.loads(_COMMENT.sub(lambda match: match[1] or " ", path.read_text(encoding="utf-8")))
    if not isinstance(value, dict):
        raise ValueError("settings are an object")
    return cast("Mapping[str, object]", value)


def _merged(below: Mapping[str, object], above: Mapping[str, object]) -> dict[str, object]:
    """``above`` wins, key by key."""
    merged = {**below, **above}
    for key in below.keys() & above.keys():
        lower, upper = below[key], above[key]
        if isinstance(lower, dict) and isinstance(upper, dict):
            merged[key] = _merged(cast("Mapping[str, object]", lower), cast("Mapping[str, object]", upper))
    return merged


class GeminiTranscript:
    """Reads the lines of ``--output-format stream-json``. Usage comes once, in the closing event, for this call alone."""

    def __init__(self) -> None:
        self._response = self._line = ""
        self._text_length = 0
        self._tools: dict[str, str] = {}
        self._tool_calls = 0
        self._trouble: Trouble | None = None
        self._closed = self._succeeded = False

    def read(self, line: str, /) -> Iterator[Report]:
        record = read_record(line)
        if record is None:
            yield Said(line)
            return
        match text(record, "type"):
            case "init":
                yield SessionBegan(text(record, "session_id"))
            case "message" if text(record, "role") == "assistant":
                self._line += text(record, "content")
            case "tool_use":
                yield from self._said()
                self._tool_calls += 1
                call_id, tool = text(record, "tool_id"), text(record, "tool_name")
                self._tools[call_id] = tool
                yield ToolStarted(call_id, tool, about(child(record, "parameters")))
            case "tool_result":
                call_id = text(record, "tool_id")
                failed = text(record, "status") == "error"
                words = first_line(text(record, "output") or text(child(record, "error"), "message"))
                yield ToolEnded(call_id, self._tools.pop(call_id, ""), failed, words if failed else "")
            case "error":
                self._trouble = Trouble(text(record, "message") or text(child(record, "error"), "message"))
                yield self._trouble
            case "result":
                yield from self._said()
                yield from self._result(record)
            case _:
                return

    def end(self, exit_code: int, stderr: str, /) -> Closed | Trouble | None:
        """What went wrong in words comes with the lines, the HTTP status with the exit code alone: modulo 256."""
        if self._succeeded:
            return None
        trouble = self._trouble or Trouble(_last_words(stderr) or "it said nothing")
        if exit_code in _EXIT_CODES:
            trouble = Trouble(f"{_EXIT_CODES[exit_code]}: {trouble.message}", lost=exit_code == _NO_SESSION)
        status = next((status for status in (*range(400, 512), _OVERLOADED) if status % 256 == exit_code), 0)
        trouble = replace(trouble, http_status=trouble.http_status or status)
        return Closed(self._response, trouble) if self._closed else trouble

    def _said(self) -> Iterator[Said]:
        """A text is whole when a tool is used, or at the end. The last one is the agent's response."""
        if self._line.strip():
            self._response = self._line
            self._text_length += len(self._line)
            yield Said(self._line)
        self._line = ""

    def _result(self, record: Mapping[str, object]) -> Iterator[Report]:
        self._closed = True
        stats = child(record, "stats")
        tokens = Tokens(count(stats, "input_tokens"), count(stats, "output_tokens"), count(stats, "cached"))
        yield TurnEnded(self._text_length, self._tool_calls)
        if tokens:
            yield Used(tokens)
        if text(record, "status") == "success":
            self._succeeded = True
            yield Closed(self._response)
            return
        error = child(record, "error")
        if message := text(error, "message"):
            limit = "its turn limit is reached" if text(error, "type") == "FatalTurnLimitedError" else ""
            self._trouble = Trouble(message, limit=limit)


def _last_words(stderr: str) -> str:
    """The last line that speaks of an error: before it come notes about colors and start-up."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    return next((line for line in reversed(lines) if "error" in line.lower()), lines[-1] if lines else "")


def _may_be_set_in_a_file(home: Path, folder: Path) -> bool:
    """Whether one of the files that the program reads names a way to log in: its settings, and ``.env`` files upwards."""
    folders = (home.parent, folder, *folder.parents)
    texts = (*(at / ".env" for at in folders), *(at / ".gemini" / ".env" for at in folders))
    settings = (home / "settings.json", folder / ".gemini" / "settings.json", _DEFAULTS)
    return any(mentions(file, "GEMINI_", "GOOGLE_") for file in texts) or any(
        mentions(file, "selectedType") for file in settings
    )
