"""What a workspace does at the end of a run, and how long the end may take."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from kilroy_engine.events import Event
from kilroy_engine.rundir.files.records import FinalOutcome


class Closing(Protocol):
    """What a workspace does at the end of the run. Both methods may be called again after a crash.

    Expected failures are events (``git_push_failed``, ``warning``). An exception becomes a ``warning``.
    """

    def push(self, final: FinalOutcome, *, limit_s: float) -> Iterable[Event]:
        """Publishes the run's work, in ``limit_s`` seconds at most. Yields each event as soon as it happened."""
        ...

    def tidy(self, final: FinalOutcome) -> Iterable[Event]:
        """Removes work folders that are no longer needed. Yields its events."""
        ...


class _Nothing:
    def push(self, final: FinalOutcome, *, limit_s: float) -> Iterable[Event]:
        del final, limit_s
        return ()

    def tidy(self, final: FinalOutcome) -> Iterable[Event]:
        del final
        return ()


NOTHING: Closing = _Nothing()
"""For a run without anything to publish or to remove."""


@dataclass(frozen=True, slots=True)
class ClosingLimits:
    """How long the steps of the end may take, in seconds."""

    grace_s: float = 5.0
    archive_s: float = 60.0
    push_s: float = 60.0

    @property
    def total_s(self) -> float:
        """How long a second process waits until the first has ended the run. Then the second process ends the run itself."""
        return self.grace_s + self.archive_s + self.push_s + 10.0


UNHURRIED = ClosingLimits()
"""For a process that may take its time."""
HURRIED = ClosingLimits(grace_s=2.0, archive_s=3.0, push_s=3.0)
"""For a process with little time, such as one that got a signal and will soon be killed."""
