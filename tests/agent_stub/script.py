"""What the model of the stub says: scenarios of turns, and what goes wrong in them. Knows no provider."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

Tool = Literal["write", "shell", "status", "raw"]
FaultKind = Literal["http", "quota", "plan", "credit", "cut", "hang", "slow", "sse_error"]


@dataclass(frozen=True)
class Call:
    """A tool call in neutral terms; the agent's own tool for it is looked up among those that the request offers.

    ``write`` takes ``path`` and ``content``, ``shell`` takes ``command``. ``status`` takes ``status``, a JSON object that goes
    to the status path which the prompt names. ``raw`` takes ``name`` and ``input`` of a tool, as they are.
    """

    tool: Tool
    args: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Usage:
    """Tokens of one answer, or of several. ``cached`` counts beside ``fresh``, ``reasoning`` is a part of ``output``."""

    fresh: int = 0
    cached: int = 0
    output: int = 0
    reasoning: int = 0

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.fresh + other.fresh, self.cached + other.cached, self.output + other.output, self.reasoning + other.reasoning
        )


@dataclass(frozen=True)
class Turn:
    """The answer to one request: text, then tool calls. The agent sends their results with its next request."""

    text: str = ""
    calls: tuple[Call, ...] = ()


@dataclass(frozen=True)
class Fault:
    """What happens instead of turn ``on_turn`` (0 for the first), or in the middle of it.

    ``http`` answers with ``status``. ``quota`` is an API key whose quota is used up, ``plan`` a subscription that has reached
    its limit, ``credit`` an account without money; each provider has its own words for them. ``cut`` breaks the stream off,
    ``hang`` never answers, ``slow`` waits ``seconds`` before each event, ``sse_error`` reports an overload in a stream that
    began well. ``times`` counts from the first request of a run; None is for ever.
    """

    kind: FaultKind
    status: int = 0
    on_turn: int = 0
    times: int | None = None
    retry_after_s: int | None = None
    seconds: float = 0.0


@dataclass(frozen=True)
class Scenario:
    """Turns until the first without calls. Asked for more than there are, the model repeats its last word."""

    turns: tuple[Turn, ...]
    fault: Fault | None = None

    def turn(self, index: int) -> Turn:
        return self.turns[min(index, len(self.turns) - 1)]

    @property
    def usage(self) -> Usage:
        """What a run of all turns, each answered once, adds up to."""
        return sum((usage_of(index) for index in range(len(self.turns))), Usage())


def usage_of(index: int) -> Usage:
    """Tokens of turn ``index``: the same whatever an agent sends along, and different for each turn."""
    return Usage(fresh=1000 + 100 * index, cached=400, output=20 + index, reasoning=5)
