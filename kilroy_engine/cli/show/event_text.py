"""Turns the events of a run into lines for people.

The class of an event holds its line as a template (:attr:`kilroy_engine.events.Event.says`). This module formats the event's
fields, and adds words that no field holds. Each stream has its own narrator: "fail (2.3 s)" needs the time of an earlier event.
Events that only programs need give no line. An unknown event is shown with all of its fields.
"""

from __future__ import annotations

import string
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from kilroy_engine.events import CATALOG, BranchProgress, EdgeSelected, RetryDecision, StageAttemptEnd, StageAttemptStart

Event = Mapping[str, Any]

SAYS: Mapping[str, str] = {kind.event: kind.says for kinds in CATALOG.values() for kind in kinds}
"""The template of each event's line, by the event's name. Empty for an event that gives no line."""

_ENVELOPE = frozenset({"event", "id", "run_id", "ts"})


@dataclass
class Narrator:
    """Turns the events of one stream into text. Must get the events oldest first."""

    _started: dict[str, datetime] = field(default_factory=dict[str, datetime])

    def line(self, event: Event) -> str | None:
        """The event's line with the time: ``12:30:01  build: success (2.3 s)``. None for an event without a line."""
        text = self.text(event)
        return None if text is None else f"{local_time(event)}  {text}"

    def text(self, event: Event) -> str | None:
        """The event's line without the time. None for an event without a line."""
        name = str(event.get("event", ""))
        if name not in SAYS:
            return _unknown(event)
        if not SAYS[name] or _goes_without_saying(event):
            return None
        return _WORDS.vformat(SAYS[name], (), {**event, **self._more(event)})

    def _more(self, event: Event) -> Mapping[str, str]:
        """Words for the event's template that are no field of the event."""
        match event.get("event"):
            case StageAttemptStart.event:
                return {"attempts": self._stage_started(event)}
            case StageAttemptEnd.event:
                return {"took": self._took(event)}
            case EdgeSelected.event:
                return {"why": _why(event)}
            case BranchProgress.event:
                return {"where": _where(event), "what": _what(event) or ""}
            case _:
                return {}

    def _stage_started(self, event: Event) -> str:
        moment = moment_of(event)
        if moment:
            self._started[str(event.get("node_id"))] = moment
        return f" (attempt {event.get('attempt')} of {event.get('max')})" if _number(event, "attempt") > 1 else ""

    def _took(self, event: Event) -> str:
        began, ended = self._started.get(str(event.get("node_id"))), moment_of(event)
        return f" ({duration((ended - began).total_seconds())})" if began and ended else ""


def moment_of(event: Event) -> datetime | None:
    """The event's time. None where the event has no readable time."""
    try:
        return datetime.fromisoformat(str(event["ts"]))
    except (KeyError, ValueError):
        return None


def local_time(event: Event) -> str:
    """The event's time as ``HH:MM:SS`` in the local time zone."""
    moment = moment_of(event)
    return moment.astimezone().strftime("%H:%M:%S") if moment else "--:--:--"


def duration(seconds: float) -> str:
    """Seconds as text: ``0.42 s``, ``12.3 s``, ``3 m 05 s``, ``2 h 04 m``."""
    if seconds < 10:
        return f"{max(seconds, 0):.2f} s"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} m {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} m"


def one_line(value: object, limit: int = 400) -> str:
    """``value`` as text without newlines and control characters, cut to ``limit`` characters."""
    text = " ".join("".join(c if c.isprintable() or c.isspace() else "?" for c in str(value)).split())
    return text if len(text) <= limit else f"{text[: limit - 3]}..."


def _number(event: Event, key: str) -> int:
    value = event.get(key)
    return value if isinstance(value, int) else 0


def _unknown(event: Event) -> str:
    fields = (f"{key}={one_line(value, 120)}" for key, value in event.items() if key not in _ENVELOPE)
    return " ".join([str(event.get("event", "?")), *fields])


def _goes_without_saying(event: Event) -> bool:
    match event.get("event"):
        case RetryDecision.event:
            # The event of the retry's sleep says the same, or the end of the only attempt.
            return bool(event.get("will_retry")) or event.get("attempt") == 1
        case EdgeSelected.event:
            # The node has one edge, so there was no choice.
            return event.get("selection_method") == "only_edge" and not event.get("condition")
        case BranchProgress.event:
            return _what(event) is None
        case _:
            return False


def _why(event: Event) -> str:
    why = event.get("condition") or event.get("label") or str(event.get("selection_method") or "").replace("_", " ")
    if event.get("hop_source") == "retry_target":
        why = "retry target"
    return f" [{one_line(why, 120)}]" if why else ""


def _where(event: Event) -> str:
    node = event.get("branch_node_id")
    return f" {node}" if node else ""


def _what(event: Event) -> str | None:
    """What happened in a branch, as text. None for events that a person need not see."""
    match event.get("branch_event"):
        case StageAttemptStart.event:
            return "started"
        case StageAttemptEnd.event | "branch_subgraph_done":
            return f"{event.get('branch_status')}{_because(event.get('branch_failure_reason'))}"
        case _:
            return None


def _because(value: object) -> str:
    reason = one_line(value or "")
    return f": {reason}" if reason else ""


def _of_seconds(value: object) -> str:
    return duration(value) if isinstance(value, int | float) else "?"


def _choices(value: object) -> str:
    return ", ".join(one_line(choice) for choice in value) if isinstance(value, list | tuple) else one_line(value)


_SPECS: Mapping[str, Callable[[object], str]] = {
    "": one_line,
    "more": str,
    "short": lambda value: one_line(value, 120),
    "because": _because,
    "ms": lambda value: _of_seconds(value / 1000 if isinstance(value, int | float) else value),
    "s": _of_seconds,
    "list": _choices,
    "usd": lambda value: f", {value:.4f} USD" if isinstance(value, int | float) else "",
    "page": lambda value: f" -- answer at {one_line(value)}" if value else "",
}
"""Functions that format a value, by the format spec in a template. ``more`` is for words that the narrator adds.

Two further specs have a word: ``or <word>`` replaces an empty value, ``count <noun>`` adds the noun, with an s for several.
"""


class _Words(string.Formatter):
    """Fills in a template. A field that the event lacks is empty: the field is optional, or belongs to another version."""

    def get_value(self, key: int | str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> object:
        return kwargs.get(str(key), "")

    def format_field(self, value: object, format_spec: str) -> str:
        way, _, word = format_spec.partition(" ")
        match way:
            case "or":
                return one_line(value or word)
            case "count":
                return f"{value} {word}" if value == 1 else f"{value} {word}s"
            case _:
                return _SPECS[way](value)


_WORDS = _Words()
