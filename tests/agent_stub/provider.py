"""The seam between the server, which plays scenarios, and the providers, which know how an answer looks on the wire."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from agent_stub.script import Fault, Turn, Usage
from agent_stub.tools import Offer, Use

Json = dict[str, Any]

_SCENARIO = re.compile(r"\[\[scenario:([\w-]+)\]\]")
_STATUS_PATH = re.compile(r"\$KILROY_STAGE_STATUS_PATH = (/[^\r\n]+)")


@dataclass(frozen=True)
class Conversation:
    """What a request says. ``turn`` counts the model's answers since the last prompt: retries, parallel runs and resumed
    sessions need no memory here. ``texts`` are those of the user, the newest first, results of tools not among them.
    ``wanted`` is the answer that a request without tools asks for by a schema."""

    turn: int
    texts: tuple[str, ...]
    streamed: bool
    offer: Offer = field(default_factory=Offer)
    model: str = "stub"
    wanted: str = ""

    @property
    def scenario(self) -> str:
        """The name in the newest ``[[scenario:NAME]]``, empty without one."""
        return self._newest(_SCENARIO)

    @property
    def status_path(self) -> str:
        return self._newest(_STATUS_PATH).strip()

    def _newest(self, pattern: re.Pattern[str]) -> str:
        return next((found[-1] for text in self.texts if (found := pattern.findall(text))), "")


@dataclass(frozen=True)
class Reply:
    """One turn, with the agent's own tools."""

    turn: Turn
    uses: tuple[Use, ...]
    usage: Usage
    model: str


@dataclass(frozen=True)
class Event:
    """One server-sent event. ``data`` is JSON, or a word such as ``[DONE]``."""

    data: Json | str
    name: str = ""


@dataclass(frozen=True)
class Refusal:
    """An answer that is an error."""

    status: int
    body: Json
    headers: Mapping[str, str] = field(default_factory=dict)


class Provider(Protocol):
    """``cut_after`` is the number of events after which a stream that breaks off has said something, but nothing whole."""

    cut_after: int

    def read(self, body: Json, path: Mapping[str, str]) -> Conversation: ...

    def whole(self, reply: Reply) -> Json: ...

    def events(self, reply: Reply) -> Iterable[Event]: ...

    def refusal(self, fault: Fault) -> Refusal: ...

    def overload(self) -> Event: ...


def new_id(prefix: str) -> str:
    return prefix + uuid.uuid4().hex[:20]
