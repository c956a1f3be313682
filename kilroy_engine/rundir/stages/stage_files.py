"""A stage's directory: the files of earlier visits and attempts, and the stage's ``status.json``."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError, field_validator

from kilroy_engine.errors import CorruptRecord
from kilroy_engine.events.encoding import compact, from_json
from kilroy_engine.limits import STATUS_BYTES
from kilroy_engine.rundir.files.atomic import TEMPORARY_PREFIX, is_temporary, write_json
from kilroy_engine.rundir.files.copies import copy_file
from kilroy_engine.rundir.files.failpoints import failpoint
from kilroy_engine.rundir.files.regular import make_folder, read_file, remove
from kilroy_engine.traversal.outcome import Json, Outcome, Status
from kilroy_engine.traversal.outcome import read_status as read_status_word

STATUS_FILE = "status.json"
_VISIT = re.compile(r"visit_\d+\Z")
_MOVING = f"{TEMPORARY_PREFIX}visit"
_HINTS = ("failure_class", "failure_signature")
"""Keys of ``meta`` that may also be keys of ``status.json`` itself."""


def begin_visit(stage_dir: Path) -> None:
    """Makes the stage directory, and moves the files of an earlier visit to ``visit_<k>/``, k counted from 1.

    ``visit_<k>/`` has a temporary name until all files are moved. If the move is interrupted, the next call completes the move.
    """
    failpoint("visit", "before")
    make_folder(stage_dir)
    earlier = _of_current_visit(stage_dir)
    if earlier:
        kept = stage_dir / _MOVING
        make_folder(kept)
        for entry in earlier:
            if entry != kept:
                entry.rename(kept / entry.name)
                failpoint("visit", "moving")
        number = begun_visits(stage_dir)
        while os.path.lexists(stage_dir / f"visit_{number}"):  # a stage made a file of that name
            number += 1
        kept.rename(stage_dir / f"visit_{number}")
    failpoint("visit", "after")


def begun_visits(stage_dir: Path) -> int:
    """How many visits have begun to work in the stage directory; 0 where the directory does not exist."""
    if not stage_dir.is_dir():
        return 0
    kept = sum(1 for entry in stage_dir.iterdir() if _VISIT.match(entry.name))
    return kept + bool(_of_current_visit(stage_dir))


def _of_current_visit(stage_dir: Path) -> list[Path]:
    """The entries of the stage directory that are no earlier visit's."""
    return [entry for entry in stage_dir.iterdir() if not _VISIT.match(entry.name)]


def begin_attempt(stage_dir: Path, attempt: int) -> None:
    """Copies the plain files of the previous attempt to ``attempt_<n-1>/`` and removes the stage's ``status.json``.

    ``attempt`` counts from 1 within the visit.
    """
    failpoint("attempt", "before")
    if attempt > 1:
        kept = stage_dir / f"attempt_{attempt - 1}"
        make_folder(kept)
        for entry in stage_dir.iterdir():
            if entry.is_file() and not entry.is_symlink() and not is_temporary(entry):
                copy_file(entry, kept / entry.name)
    remove(stage_dir / STATUS_FILE)
    failpoint("attempt", "after")


def write_status(stage_dir: Path, outcome: Outcome) -> None:
    """Writes ``status.json`` in Kilroy's shape: only the key ``status`` is always present.

    The file is not flushed to the disk: after a power cut a resume reads the outcome from ``checkpoint.json``, which is
    flushed.
    """
    write_json(stage_dir / STATUS_FILE, encode_status(outcome), durable=False)


def encode_status(outcome: Outcome) -> dict[str, object]:
    """The content of ``status.json``, also used for outcomes inside of other files.

    ``meta`` holds the engine's facts about a failure: its class, its signature, and whether the stage ran out of time. No other
    field of the engine's own is written.
    """
    reason = outcome.failure_reason
    if outcome.failed and not reason.strip():
        reason = f'failure_reason must be non-empty when status="{outcome.status}"'
    known = {
        "timeout": outcome.timed_out,
        "failure_signature": outcome.failure_signature,
        "failure_class": str(outcome.failure_class),
    }
    optional: dict[str, object] = {
        "preferred_label": outcome.preferred_label,
        "suggested_next_ids": list(outcome.suggested_next_ids),
        "context_updates": dict(outcome.context_updates),
        "notes": outcome.notes,
        "failure_reason": reason,
        "verification": outcome.verification,
        "details": outcome.details,
        "meta": {**outcome.meta, **{key: value for key, value in known.items() if value}},
    }
    kept = {key: value for key, value in optional.items() if value not in (None, "", [], {})}
    return {"status": str(outcome.status), **kept}


@dataclass(frozen=True, slots=True)
class StatusFile:
    """The result of reading ``status.json``: an outcome, or the problem that made the file unreadable. Neither where there is
    no file.
    """

    outcome: Outcome | None = None
    problem: str = ""


def read_status(stage_dir: Path) -> StatusFile:
    """Reads the ``status.json`` of ``stage_dir``. An unreadable file counts as no outcome (Kilroy)."""
    path = stage_dir / STATUS_FILE
    try:
        content = read_file(path, limit_bytes=STATUS_BYTES)
        return StatusFile() if content is None else StatusFile(decode_status(content, path))
    except CorruptRecord as error:
        return StatusFile(problem=str(error))


def decode_status(content: bytes, path: Path) -> Outcome:
    """Reads an outcome in one of Kilroy's two shapes: the canonical one with the key ``status``, the older one with
    ``outcome``.

    Unknown keys are ignored. If a key has the wrong type in the canonical shape, the older shape is tried.

    Raises:
        CorruptRecord: ``content`` has neither shape; the message says why.
    """
    try:
        value = from_json(content, constant=_refuse_constant)
    except ValueError as error:
        raise CorruptRecord(f"{path} is not JSON: {error}", path=path) from error
    if not isinstance(value, dict):
        raise CorruptRecord(f"{path} is no JSON object", path=path)
    fields = cast("dict[str, Any]", from_json(compact(value)))  # a lone surrogate becomes U+FFFD here
    problem = ""
    for shape, key in ((_Canonical, "status"), (_Legacy, "outcome")):
        try:
            outcome = shape.model_validate(fields).to_outcome()
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            place = ".".join(str(part) for part in first["loc"])
            problem = problem or (f": {place}: {first['msg']}" if key in fields else "")
            continue
        if outcome.status:
            return outcome
    raise CorruptRecord(f"{path} holds neither a status nor an outcome{problem}", path=path)


def _refuse_constant(text: str) -> object:
    raise ValueError(f"{text} is no JSON value")


class _Shape(BaseModel):
    """Keys that both shapes of ``status.json`` have."""

    model_config = ConfigDict(extra="ignore", strict=True)

    suggested_next_ids: list[str] = Field(default_factory=list[str])
    context_updates: dict[str, JsonValue] = Field(default_factory=dict[str, JsonValue])
    notes: str = ""
    failure_reason: str = ""
    details: JsonValue = None

    @field_validator("*", mode="before")
    @classmethod
    def _null_is_absent(cls, value: object, info: Any) -> object:
        # Go reads null as "leave the field as it is".
        return cls.model_fields[info.field_name].get_default(call_default_factory=True) if value is None else value

    def to_outcome(self) -> Outcome:
        raise NotImplementedError


class _Command(BaseModel):
    model_config = ConfigDict(extra="allow", strict=True)

    command: str = ""
    exit_code: int = 0
    blocked: bool = False
    reason: str = ""


class _Verification(BaseModel):
    model_config = ConfigDict(extra="allow", strict=True)

    status: str = ""
    blocked_reason: str = ""
    commands: list[_Command] | None = None


class _Canonical(_Shape):
    status: str
    preferred_label: str = ""
    verification: JsonValue = None
    meta: dict[str, JsonValue] = Field(default_factory=dict[str, JsonValue])
    failure_class: JsonValue = None
    failure_signature: JsonValue = None

    @field_validator("verification")
    @classmethod
    def _is_verification(cls, value: JsonValue) -> JsonValue:
        if value is not None:
            _Verification.model_validate(value)
        return value

    def to_outcome(self) -> Outcome:
        hints = {name: value for name in _HINTS if (value := getattr(self, name)) is not None}
        meta: dict[str, Any] = {**self.meta, **hints}
        # A value of another type means nothing to the engine and stays in ``meta``.
        failure_class, failure_signature = (meta.pop(name) if isinstance(meta.get(name), str) else "" for name in _HINTS)
        timed_out = meta.pop("timeout") if meta.get("timeout") is True else False
        status = read_status_word(self.status)
        reason = self.failure_reason
        if status in (Status.FAIL, Status.RETRY) and not reason.strip():
            reason = f'failure_reason must be non-empty when status="{status}"'
        return Outcome(
            status=status,
            preferred_label=self.preferred_label,
            suggested_next_ids=tuple(self.suggested_next_ids),
            context_updates=cast("Mapping[str, Json]", self.context_updates),
            notes=self.notes,
            failure_reason=reason,
            failure_class=failure_class,
            failure_signature=failure_signature,
            timed_out=timed_out,
            verification=cast("Json", self.verification),
            details=cast("Json", self.details),
            meta=meta,
        )


class _Legacy(_Shape):
    outcome: str
    preferred_next_label: str = ""

    def to_outcome(self) -> Outcome:
        status = read_status_word(self.outcome)
        reason = self.failure_reason
        if status in (Status.FAIL, Status.RETRY) and not reason.strip():
            reason = _summary(self.details) or self.notes.strip() or f"legacy {status} outcome missing failure_reason"
        return Outcome(
            status=status,
            preferred_label=self.preferred_next_label,
            suggested_next_ids=tuple(self.suggested_next_ids),
            context_updates=cast("Mapping[str, Json]", self.context_updates),
            notes=self.notes,
            failure_reason=reason,
            details=cast("Json", self.details),
        )


def _summary(details: object) -> str:
    """One line of free-form details: a text, the joined items of a list, or the most telling entry of a map."""
    match details:
        case None:
            return ""
        case str():
            return details.strip()
        case list():
            return "; ".join(part for item in cast("list[object]", details) if (part := _summary(item)))
        case dict():
            entries = cast("dict[str, object]", details)
            told = (_summary(entries.get(key)) for key in ("failure_reason", "reason", "message", "error", "details"))
            return next((text for text in told if text), "") or compact(entries).decode()
        case _:
            return compact(details).decode()
