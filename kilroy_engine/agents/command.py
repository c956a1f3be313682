"""Any executable as an agent, called by a template."""

from __future__ import annotations

import shlex
import signal
from collections import deque
from collections.abc import Iterator, Mapping
from pathlib import Path

from kilroy_engine.agents.base import AgentRequest
from kilroy_engine.agents.running.program import Invocation
from kilroy_engine.agents.running.reports import Closed, Report, Said, Trouble
from kilroy_engine.agents.running.session import Session
from kilroy_engine.agents.running.sign_in import Found, SignIn
from kilroy_engine.errors import InvalidInput

PLACEHOLDERS = ("{model}", "{provider}", "{effort}", "{node}", "{stage_dir}", "{work_dir}", "{prompt_file}")
RESPONSE_LENGTH = 1 << 20
"""Characters of the end of its output that are kept as the agent's response."""


class CommandAgent:
    """The adapter for an executable that is called as ``template`` says, for example ``aider --model {model} --yes``.

    The prompt comes on standard input and lies in the file ``{prompt_file}``. What it prints is its response, its exit code
    is its closing event. ``name`` is ``command``.

    Raises:
        InvalidInput: The template is empty or has an open quote.
    """

    name = "command"
    provider = "command"
    variables: frozenset[str] = frozenset[str]()
    keys: tuple[str, ...] = ()
    stop_signal = signal.SIGTERM
    grace_s = 3.0
    tested: tuple[str, ...] = ()

    def __init__(self, template: str) -> None:
        try:
            self._words = tuple(shlex.split(template))
        except ValueError as error:
            raise InvalidInput(f"agent_command cannot be read: {error}: {template}", name="agent_command") from error
        if not self._words:
            raise InvalidInput("the agent `command` needs agent_command: what to call", name="agent_command")
        self.executable = self._words[0]

    def invocation(self, request: AgentRequest, session: Session, private: Path, /) -> Invocation:
        values = {
            "{model}": request.model,
            "{provider}": request.provider,
            "{effort}": request.effort,
            "{node}": request.node.id,
            "{stage_dir}": str(request.stage_dir),
            "{work_dir}": str(request.work_dir),
            "{prompt_file}": str(private / "prompt.md"),
        }
        return Invocation(tuple(_filled(word, values) for word in self._words))

    def transcript(self) -> CommandTranscript:
        return CommandTranscript()

    def sign_in(self, environment: Mapping[str, str], folder: Path, /) -> SignIn:
        return SignIn(Found.NOT_LOOKED_FOR, "")

    def reads_sign_in(self, exit_code: int, stdout: str, stderr: str, /) -> Found:
        return Found.NOT_LOOKED_FOR


def _filled(word: str, values: dict[str, str]) -> str:
    for placeholder, value in values.items():
        word = word.replace(placeholder, value)
    return word


class CommandTranscript:
    """Every line is the agent's word; the exit code says how it went."""

    def __init__(self) -> None:
        self._lines: deque[str] = deque()
        self._length = 0

    def read(self, line: str, /) -> Iterator[Report]:
        self._lines.append(line)
        self._length += len(line) + 1
        while self._length > RESPONSE_LENGTH and len(self._lines) > 1:
            self._length -= len(self._lines.popleft()) + 1
        yield Said(line)

    def end(self, exit_code: int, stderr: str, /) -> Closed | Trouble | None:
        response = "\n".join(self._lines)[-RESPONSE_LENGTH:]
        if exit_code == 0:
            return Closed(response or "(it printed nothing)")
        return Trouble(stderr.strip() or response[-400:] or f"exit code {exit_code}")
