"""The run's progress clock: how long a run has made no progress, and how long that is allowed (Kilroy: stall watchdog)."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Generator
from contextlib import contextmanager

from kilroy_engine.events import BranchHeartbeat, BranchStaleWarning, Event, ManagerLoopCycle, StageHeartbeat
from kilroy_engine.processes.go_text import duration_text

_MARGIN_S = 10.0
"""The watchdog waits this much longer than a stage's own limit, so that the stage fails first and the walk can go on."""


class ProgressClock:
    """Measures the time since the last event or line of output. Safe for threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._last = time.monotonic()
        self._allowed: list[float] = []
        self._now: Counter[str] = Counter()

    def __reduce__(self) -> tuple[type[ProgressClock], tuple[()]]:
        # A branch may run in a worker process (Dask), which has no watcher. The flow's process looks at its stream instead.
        return ProgressClock, ()

    def tick(self) -> None:
        """Resets the clock. Called when the run makes progress."""
        self._last = time.monotonic()

    def heard(self, event: Event) -> None:
        """Resets the clock for an event. Heartbeats of branches and agents and cycles of a manager are no progress: otherwise
        a branch, an agent or a child pipeline that hangs would never count as stalled."""
        if not isinstance(event, BranchHeartbeat | BranchStaleWarning | ManagerLoopCycle | StageHeartbeat):
            self.tick()

    @contextmanager
    def working(self, limit_s: float | None) -> Generator[None]:
        """Active while a handler works. A handler with a limit may be silent for that long."""
        with self._counting("at work"), self.containing(limit_s):
            yield

    @contextmanager
    def containing(self, limit_s: float | None) -> Generator[None]:
        """Active while branches, a child pipeline or a callee do a stage's work. A stage with a limit may be silent for that
        long. The stage itself does not count as at work: the stages of its branches do."""
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
        """Active while the engine itself waits for the next attempt or for a concurrency slot. The clock still counts if a
        handler works meanwhile: a branch that hangs may hold the slot that another branch waits for."""
        with self._counting("waiting"):
            yield

    @contextmanager
    def _counting(self, what: str) -> Generator[None]:
        with self._lock:
            self._now[what] += 1
        try:
            yield
        finally:
            self.tick()
            with self._lock:
                self._now[what] -= 1

    def stalled_for(self, limit_s: float) -> float | None:
        """Seconds since the last progress, if they reach both ``limit_s`` and the largest allowed silence; else None."""
        with self._lock:
            if self._now["waiting"] and not self._now["at work"]:
                return None
            limit_s = max(limit_s, *self._allowed) if self._allowed else limit_s
        idle_s = time.monotonic() - self._last
        return idle_s if idle_s >= limit_s else None


def stall_reason(limit_s: float) -> str:
    """The failure reason of a stalled run, in Kilroy's words."""
    return f"stall watchdog timeout after {duration_text(limit_s)} with no progress"
