"""The base class of all events, the field types that several events share, and an event's line in ``progress.ndjson``."""

from __future__ import annotations

import dataclasses
import secrets
import time
from collections.abc import Callable
from functools import cache
from typing import Annotated, ClassVar, TypeAlias

from kilroy_engine.events.encoding import compact
from kilroy_engine.events.times import rfc3339_ns

# Field types that several events share. Each text becomes the field's description in docs/reference/events.md.
NodeId: TypeAlias = Annotated[str, "id of the node"]
VisitNumber: TypeAlias = Annotated[int, "visit of the node, counted from 1"]
Attempt: TypeAlias = Annotated[int, "attempt within the visit, counted from 1"]
MaxAttempts: TypeAlias = Annotated[int, "attempts allowed in the visit: retries + 1"]
MaxRetries: TypeAlias = Annotated[int, "retries allowed in the visit"]
StageStatus: TypeAlias = Annotated[str, "status of the stage; may be a word of the pipeline's own"]
FailureReason: TypeAlias = Annotated[str, "why it failed, one line"]
FailureClass: TypeAlias = Annotated[
    str, "`transient_infra`, `deterministic`, `canceled`, `budget_exhausted`, `compilation_loop` or `structural`"
]
Signature: TypeAlias = Annotated[str, "failure signature: `<node id>|<failure class>|<normalized reason>`"]
SignatureCount: TypeAlias = Annotated[int, "how often this signature was seen"]
SignatureLimit: TypeAlias = Annotated[int, "how often it may be seen"]
Message: TypeAlias = Annotated[str, "text for a person"]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Base of all events. A field that is None is left out of the event's line in ``progress.ndjson``.

    ``event`` is the event's name. ``says`` is the event's text for people, in which ``{field}`` is replaced by the field's
    value. A format may follow the field's name, as in ``{delay_ms:ms}`` (:mod:`kilroy_engine.cli.show.event_text`). ``says`` is
    empty for an event that only programs need, and for an event that nothing writes yet. ``by_agents`` is true for an event
    that agents may tell and the engine itself does not write.
    """

    event: ClassVar[str]
    says: ClassVar[str]
    by_agents: ClassVar[bool] = False


EventSink: TypeAlias = Callable[[Event], None]
"""A function that is called with an event as soon as the fact in the event has happened."""


def discard_event(event: Event) -> None:
    """An :data:`EventSink` that drops the event."""


@cache
def field_names(kind: type[Event]) -> tuple[str, ...]:
    """Names of the event class's own fields, without ``event``, ``id``, ``run_id`` and ``ts``."""
    return tuple(field.name for field in dataclasses.fields(kind))


def to_line(event: Event, run_id: str) -> bytes:
    """The event as one line of JSON with a newline: its fields plus ``event``, ``id`` (8 hex digits), ``run_id`` and ``ts``.

    Keys are sorted. ``ts`` is the time of this call, RFC 3339 in UTC with up to nine digits of fraction. An empty ``run_id`` is
    left out.
    """
    record: dict[str, object] = {"event": event.event, "id": secrets.token_hex(4), "ts": rfc3339_ns(time.time_ns())}
    if run_id:
        record["run_id"] = run_id
    for name in field_names(type(event)):
        value = getattr(event, name)
        if value is not None:
            record[name] = value
    return compact(record) + b"\n"
