"""What an agent program says of itself while it works, in words that are the same for all of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class Said:
    """A text of the agent's, or of its program, for people."""

    text: str


@dataclass(frozen=True, slots=True)
class SessionBegan:
    """What the program calls the conversation. It comes again when a conversation goes on."""

    session: str


@dataclass(frozen=True, slots=True)
class ToolStarted:
    """The agent begins to use one of its tools. ``about`` is one line of what for."""

    call_id: str
    tool: str
    about: str = ""


@dataclass(frozen=True, slots=True)
class ToolEnded:
    """A tool is done. ``about`` is the beginning of what it answered, where that is worth telling."""

    call_id: str
    tool: str
    failed: bool
    about: str = ""


@dataclass(frozen=True, slots=True)
class ToolDenied:
    """The agent was not allowed to use a tool. It goes on without."""

    tool: str


@dataclass(frozen=True, slots=True)
class TurnEnded:
    """The model has answered once: characters of text, and how many tools it asked for."""

    text_length: int
    tool_calls: int


@dataclass(frozen=True, slots=True)
class Tokens:
    """Tokens read and written. ``cached_input`` is the part of ``input`` that the provider had kept."""

    input: int = 0
    output: int = 0
    cached_input: int = 0

    def __add__(self, other: Tokens) -> Tokens:
        return Tokens(self.input + other.input, self.output + other.output, self.cached_input + other.cached_input)

    def beyond(self, other: Tokens) -> Tokens:
        """What is here and not in ``other``; nothing is ever less than 0."""
        return Tokens(
            max(0, self.input - other.input),
            max(0, self.output - other.output),
            max(0, self.cached_input - other.cached_input),
        )

    def __bool__(self) -> bool:
        return bool(self.input or self.output or self.cached_input)


@dataclass(frozen=True, slots=True)
class Used:
    """Tokens that were used since the last report of this kind. ``model`` is empty for the one that was asked for."""

    tokens: Tokens
    model: str = ""


@dataclass(frozen=True, slots=True)
class SessionTotals:
    """What the whole conversation has used so far, earlier tasks of it included. ``cost_usd`` is the program's own figure."""

    tokens: Tokens | None = None
    cost_usd: float | None = None


@dataclass(frozen=True, slots=True)
class Retried:
    """The program repeats a request that failed: ``attempt`` of ``maximum``, after a pause. 0 where it does not say."""

    error: str
    attempt: int = 0
    maximum: int = 0
    delay_ms: int = 0


@dataclass(frozen=True, slots=True)
class Trouble:
    """Why a program did not get through. ``http_status`` is the provider's answer, 0 where there is none.

    ``limit`` is set where a limit that we gave was reached (turns, money): its words. ``lost`` where the program does not
    know the session.
    """

    message: str
    http_status: int = 0
    limit: str = ""
    lost: bool = False


@dataclass(frozen=True, slots=True)
class Closed:
    """The program's closing event. ``response`` is the agent's last word; ``trouble`` is None for a success."""

    response: str = ""
    trouble: Trouble | None = None


Report: TypeAlias = (
    Said | SessionBegan | ToolStarted | ToolEnded | ToolDenied | TurnEnded | Used | SessionTotals | Retried | Trouble | Closed
)
"""A :class:`Trouble` alone is an error that the program tells before its end, which may or may not be the reason of that."""
