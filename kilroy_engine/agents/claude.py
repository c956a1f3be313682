"""Claude Code: ``claude -p`` with its stream of JSON lines."""

from __future__ import annotations

import signal
from collections.abc import Iterator, Mapping
from pathlib import Path

from kilroy_engine.agents.base import AgentRequest
from kilroy_engine.agents.running.lines import (
    about,
    amount,
    child,
    children,
    count,
    first_line,
    read_record,
    text,
)
from kilroy_engine.agents.running.program import Invocation
from kilroy_engine.agents.running.reports import (
    Closed,
    Report,
    Retried,
    Said,
    SessionBegan,
    SessionTotals,
    Tokens,
    ToolDenied,
    ToolEnded,
    ToolStarted,
    Trouble,
    TurnEnded,
    Used,
)
from kilroy_engine.agents.running.session import Session
from kilroy_engine.agents.running.sign_in import Found, SignIn, first_set, home_of

TOOLS = "Bash,Edit,Glob,Grep,NotebookEdit,Read,Task,TodoWrite,WebFetch,WebSearch,Write"
"""Tools that an agent may use without being asked. Any other is denied, which it is told and goes on."""
REQUEST_RETRIES = "2"
"""How often the program repeats a request. Its own default is ten, which takes three minutes; a stage has its own retries."""

_KEYS = ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "CLAUDE_CODE_OAUTH_TOKEN")


class Claude:
    """The adapter for Claude Code."""

    name = "claude"
    executable = "claude"
    provider = "anthropic"
    variables: frozenset[str] = frozenset(
        {
            "ANTHROPIC_API_KEY",
            "ANTHROPIC_AUTH_TOKEN",
            "ANTHROPIC_BASE_URL",
            "ANTHROPIC_CUSTOM_HEADERS",
            "CLAUDE_CODE_OAUTH_TOKEN",
            "CLAUDE_CONFIG_DIR",
        }
    )
    keys: tuple[str, ...] = _KEYS
    # Interrupted it ends its commands and reports; terminated it leaves without a word.
    stop_signal = signal.SIGINT
    grace_s = 4.0
    tested: tuple[str, ...] = ("2.1.197", "2.1.332")

    def invocation(self, request: AgentRequest, session: Session, private: Path, /) -> Invocation:
        limits = request.limits
        # fmt: off
        argv = [
            self.executable, "-p", "--output-format", "stream-json", "--verbose", "--include-partial-messages",
            "--permission-mode", "dontAsk", "--allowedTools", TOOLS,
        ]
        # fmt: on
        if request.model:
            argv += ["--model", request.model]
        if request.effort:
            argv += ["--effort", request.effort]
        if limits.turns:
            argv += ["--max-turns", str(limits.turns)]
        if limits.cost_usd is not None:
            argv += ["--max-budget-usd", f"{limits.cost_usd:.4f}"]
        if session.name:
            argv += ["--resume", session.name]
        elif not request.thread:
            argv += ["--no-session-persistence"]
        environment = {
            "CLAUDE_CODE_MAX_RETRIES": REQUEST_RETRIES,
            "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
            # What it remembers of a repository is the same for all worktrees of it: branches, runs and the user's own work.
            "CLAUDE_CODE_DISABLE_AUTO_MEMORY": "1",
            "DISABLE_AUTOUPDATER": "1",
        }
        if limits.output_tokens:
            environment["CLAUDE_CODE_MAX_OUTPUT_TOKENS"] = str(limits.output_tokens)
        return Invocation(tuple(argv), environment)

    def transcript(self) -> ClaudeTranscript:
        return ClaudeTranscript()

    def sign_in(self, environment: Mapping[str, str], folder: Path, /) -> SignIn:
        if key := first_set(_KEYS, environment):
            return SignIn(Found.YES, key)
        login = home_of(environment, "CLAUDE_CONFIG_DIR", ".claude") / ".credentials.json"
        if login.is_file():
            return SignIn(Found.YES, f"the login in {login}")
        # A key chain or a setting such as apiKeyHelper may give access too: the program knows.
        missing = f"{', '.join(_KEYS)} are not set and {login} does not exist; set a key, or log in with `claude auth login`"
        return SignIn(Found.UNKNOWN, missing, ask=("auth", "status"))

    def reads_sign_in(self, exit_code: int, stdout: str, stderr: str, /) -> Found:
        match (read_record(stdout.strip()) or {}).get("loggedIn"):
            case True:
                return Found.YES
            case False:
                return Found.NO
            case _:
                return Found.UNKNOWN  # a version that does not know the question


class ClaudeTranscript:
    """Reads the lines of ``--output-format stream-json --include-partial-messages``.

    ``assistant`` lines carry the usage of a message's beginning, several lines the same; so a message is counted from the
    events of its stream, once, when it ends.
    """

    def __init__(self) -> None:
        self._tools: dict[str, str] = {}
        self._counted: set[str] = set()
        self._message: dict[str, Tokens] = {}
        self._total = Tokens()
        self._model: dict[str, str] = {}
        self._streaming = ""
        self._text_length = 0
        self._tool_calls = 0

    def read(self, line: str, /) -> Iterator[Report]:
        record = read_record(line)
        if record is None:
            yield Said(line)
            return
        match text(record, "type"), text(record, "subtype"):
            case "system", "init":
                yield SessionBegan(text(record, "session_id"))
            case "system", "api_retry":
                yield _retried(record)
            case "system", "permission_denied":
                yield ToolDenied(text(record, "tool_name") or "a tool")
            case "stream_event", _:
                yield from self._stream(child(record, "event"))
            case "assistant", _:
                yield from self._assistant(child(record, "message"))
            case "user", _:
                yield from self._results(child(record, "message"))
            case "result", _:
                yield from self._result(record)
            case _:
                return

    def end(self, exit_code: int, stderr: str, /) -> Closed | Trouble | None:
        del exit_code
        if "No conversation found" in stderr:
            return Trouble(first_line(stderr), lost=True)
        return None

    def _stream(self, event: Mapping[str, object]) -> Iterator[Report]:
        match text(event, "type"):
            case "message_start":
                message = child(event, "message")
                self._streaming = text(message, "id")
                self._message[self._streaming] = _tokens(child(message, "usage"))
                self._model[self._streaming] = text(message, "model")
            case "message_delta":
                read = self._message.get(self._streaming, Tokens())
                told = _tokens(child(event, "usage"))
                # The input is told whole or not at all: its parts are not to be mixed.
                first = told if told.input >= read.input else read
                self._message[self._streaming] = Tokens(first.input, told.output or read.output, first.cached_input)
            case "message_stop":
                yield from self._count(self._streaming)
                yield TurnEnded(self._text_length, self._tool_calls)
                self._text_length = self._tool_calls = 0
            case _:
                return

    def _count(self, message_id: str) -> Iterator[Used]:
        tokens = self._message.pop(message_id, Tokens())
        if message_id and message_id not in self._counted and tokens:
            self._counted.add(message_id)
            self._total += tokens
            yield Used(tokens, self._model.get(message_id, ""))

    def _assistant(self, message: Mapping[str, object]) -> Iterator[Report]:
        for block in children(message, "content"):
            match text(block, "type"):
                case "text":
                    self._text_length += len(text(block, "text"))
                    yield Said(text(block, "text"))
                case "tool_use":
                    self._tool_calls += 1
                    call_id, tool = text(block, "id"), text(block, "name")
                    self._tools[call_id] = tool
                    yield ToolStarted(call_id, tool, about(child(block, "input")))
                case _:
                    continue

    def _results(self, message: Mapping[str, object]) -> Iterator[Report]:
        for block in children(message, "content"):
            if text(block, "type") == "tool_result":
                call_id = text(block, "tool_use_id")
                failed = block.get("is_error") is True
                yield ToolEnded(call_id, self._tools.pop(call_id, ""), failed, _words_of(block) if failed else "")

    def _result(self, record: Mapping[str, object]) -> Iterator[Report]:
        for denial in children(record, "permission_denials"):
            yield ToolDenied(text(denial, "tool_name") or "a tool")
        for message_id in tuple(self._message):  # one that was cut in the middle of its stream
            yield from self._count(message_id)
        if rest := _tokens(child(record, "usage")).beyond(self._total):  # answers that were not streamed
            yield Used(rest)
        yield SessionTotals(cost_usd=amount(record, "total_cost_usd"))
        yield Closed(text(record, "result"), _trouble(record))


def _tokens(usage: Mapping[str, object]) -> Tokens:
    """Anthropic counts tokens that were written to or read from its cache apart from those of the input."""
    cached = count(usage, "cache_read_input_tokens")
    read = count(usage, "input_tokens") + count(usage, "cache_creation_input_tokens") + cached
    return Tokens(read, count(usage, "output_tokens"), cached)


def _retried(record: Mapping[str, object]) -> Retried:
    status = count(record, "error_status")
    error = " ".join(part for part in (str(status) if status else "", text(record, "error")) if part)
    return Retried(error, count(record, "attempt"), count(record, "max_retries"), round(amount(record, "retry_delay_ms") or 0))


def _trouble(record: Mapping[str, object]) -> Trouble | None:
    """None for a success. An error of the API has the subtype ``success``: ``is_error`` decides."""
    subtype = text(record, "subtype")
    if record.get("is_error") is not True and subtype == "success":
        return None
    errors = record.get("errors")
    details = [str(error) for error in errors] if isinstance(errors, list) else []  # pyright: ignore[reportUnknownVariableType]
    message = text(record, "result") or "; ".join(details) or subtype or "it says that it failed, and not why"
    if subtype == "error_max_turns" or text(record, "terminal_reason") == "max_turns":
        return Trouble(message, limit=f"its turn limit is reached after {count(record, 'num_turns')} turns")
    if subtype == "error_max_budget_usd":
        return Trouble(message, limit="its budget in US dollars is spent (max_budget_usd)")
    return Trouble(message, count(record, "api_error_status"), lost="No conversation found" in message)


def _words_of(block: Mapping[str, object]) -> str:
    content = block.get("content")
    if isinstance(content, str):
        return first_line(content)
    return first_line("\n".join(text(part, "text") for part in children(block, "content")))
