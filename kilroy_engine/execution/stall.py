"""The run's progress clock: how long nothing has happened, and how long that may last (Kilroy: stall watchdog)."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Generator
from contextlib import contextmanager

from kilroy_engine.events import BranchHeartbeat, BranchStaleWarning, Event, ManagerLoopCycle, StageHeartbeat
from kilroy_engine.processes.go_text import duration_text

_MARGIN_S = 10.0
"""By how much a stage's own limit goes before the watchdog: the stage fails then, and the walk may go on."""


class ProgressClock:
    """Set back by every event and every line of output. Safe for threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._last = time.monotonic()
        self._allowed: list[float] = []
        self._now: Counter[str] = Counter()

    def __reduce__(self) -> tuple[type[ProgressClock], tuple[()]]:
        # In another process nobody looks at it: the fan-out's own process sees the branch's stream grow.
        return ProgressClock, ()

    def tick(self) -> None:
        """Something has happened."""
        self._last = time.monotonic()

    def heard(self, event: Event) -> None:
        """An event was appended. That a branch or an agent is still there, or a child pipeline is still watched, is no
        progress: one that hangs would keep the run alive."""
        if not isinstance(event, BranchHeartbeat | BranchStaleWarning | ManagerLoopCycle | StageHeartbeat):
            self.tick()

    @contextmanager
    def working(self, limit_s: float | None) -> Generator[None]:
        """A handler at work. One with a limit of its own may be silent for that long."""
        with self._counted("at work"), self.containing(limit_s):
            yield

    @contextmanager
    def containing(self, limit_s: float | None) -> Generator[None]:
        """A stage whose work others do: branches, a child pipeline, a callee. With a limit of its own it may be silent too."""
        allowed = limit_s + _MARGIN_S if limit_s else 0.0
        with self._lock:
            self._allowed.append(allowed)
        try:
            yield
        finally:
            self.tick()
            with self._lock:
                self._allowed.remove(allowed)

    @contextmanager
    def expecting_silence(self) -> Generator[None]:
        """A wait of the engine's own, however long: for the next attempt, for a slot of a concurrency limit. It excuses nobody
        who is at work meanwhile: a branch that hangs may hold the very slot that another one waits for."""
        with self._counted("waiting"):
            yield

    @contextmanager
    def _counted(self, what: str) -> Generator[None]:
        with self._lock:
            self._now[what] += 1
        try:
            yield
        finally:
            self.tick()
            with self._lock:
                self._now[what] -= 1

    def stalled_for(self, limit_s: float) -> float | None:
        """Seconds since the last progress when they are more than ``limit_s`` and than what is allowed; else None."""
        with self._lock:
            if self._now["waiting"] and not self._now["at work"]:
                return None
            limit_s = max(limit_s, *self._allowed) if self._allowed else limit_s
        idle_s = time.monotonic() - self._last
        return idle_s if idle_s >= limit_s else None


def stall_reason(limit_s: float) -> str:
    """Failure reason of a stalled run, in Kilroy's words."""
    return f"stall watchdog timeout after {duration_text(limit_s)} with no progress"
