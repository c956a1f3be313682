"""Variables that a run's agents get beside those of the engine's process: keys and addresses that somebody keeps for them."""

from __future__ import annotations

import json
import mmap
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, TypeVar

from kilroy_engine.rundir.files.regular import open_for_writing
from kilroy_engine.traversal.outcome import Outcome

MASK = "********"
SHORTEST = 8
_WRITTEN_RAW = ("stdout.log", "stderr.log", "events.ndjson", "events.json")
_Event = TypeVar("_Event")


@dataclass(frozen=True, slots=True)
class AgentVariables:
    """``of_provider`` are variables by provider and name, which only agents at work for that provider get; every agent gets
    ``every``. ``hidden`` are the values among them that nobody may see, longest first.

    No value is part of its ``repr``. It can be pickled.
    """

    of_provider: Mapping[str, Mapping[str, str]] = field(default_factory=dict[str, Mapping[str, str]], repr=False)
    every: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)
    hidden: tuple[str, ...] = field(default=(), repr=False)

    def of(self, provider: str) -> Mapping[str, str]:
        """What an agent at work for ``provider`` gets, by name."""
        return {**self.of_provider.get(provider, {}), **self.every}

    def hiding(self, values: Iterable[str]) -> AgentVariables:
        """The same, with ``values`` hidden too. Values of fewer than 8 characters are no secrets, and would blot out words."""
        more = {value for value in values if len(value) >= SHORTEST}
        return replace(self, hidden=tuple(sorted({*self.hidden, *more}, key=len, reverse=True)))

    def masked(self, text: str) -> str:
        """``text`` with every hidden value blotted out."""
        for value in self.hidden:
            text = text.replace(value, MASK)
        return text

    def masked_event(self, event: _Event) -> _Event:
        """The event with every hidden value blotted out of its texts."""
        found: dict[str, Any] = {part.name: getattr(event, part.name) for part in fields(event)}  # type: ignore[arg-type]
        told = {name: self.masked(value) for name, value in found.items() if isinstance(value, str)}
        changed = {name: value for name, value in told.items() if value != found[name]}
        return replace(event, **changed) if changed else event  # type: ignore[type-var]

    def masked_outcome(self, outcome: Outcome) -> Outcome:
        """The outcome with every hidden value blotted out of what people read of it."""
        updates = {
            name: self.masked(value) if isinstance(value, str) else value for name, value in outcome.context_updates.items()
        }
        reason, notes = self.masked(outcome.failure_reason), self.masked(outcome.notes)
        return outcome.with_updates(failure_reason=reason, notes=notes, context_updates=updates)

    def clean(self, stage_dir: Path) -> None:
        """Blots every hidden value out of the files of a stage that hold what its agent printed. Called when it has ended."""
        for name in _WRITTEN_RAW:
            path = stage_dir / name
            if self.hidden and path.is_file() and not path.is_symlink() and path.stat().st_size:
                with os.fdopen(open_for_writing(path, os.O_RDWR), "r+b") as file, mmap.mmap(file.fileno(), 0) as content:
                    for value in self.hidden:
                        for spelled in {value, json.dumps(value)[1:-1]}:
                            _blot_out(content, spelled.encode(errors="surrogateescape"))


def _blot_out(content: mmap.mmap, value: bytes) -> None:
    """In place and of the same length: such a file may be larger than memory."""
    at = content.find(value)
    while at >= 0:
        content[at : at + len(value)] = b"*" * len(value)
        at = content.find(value, at)
