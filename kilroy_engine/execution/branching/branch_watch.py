"""Watches the branches of a fan-out: heartbeats, a warning about a branch that is silent for long, the run's progress clock."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from datetime import datetime

from kilroy_engine.errors import RunDirectoryError
from kilroy_engine.events import BranchHeartbeat, BranchStaleWarning
from kilroy_engine.events.times import now, read_rfc3339, rfc3339
from kilroy_engine.execution.branching.branch import BranchWork
from kilroy_engine.execution.lane import Lane
from kilroy_engine.rundir.files.regular import read_file
from kilroy_engine.rundir.stream.progress import parse_line

HEARTBEAT_S = 10.0
STALE_S = 300.0
_WARN_AGAIN_S = 60.0


@dataclass
class BranchWatch:
    """Watches the branches of one fan-out. Times are those of ``time.monotonic``."""

    lane: Lane
    _beaten: dict[str, float] = field(default_factory=dict[str, float])
    _warned: dict[str, float] = field(default_factory=dict[str, float])
    _sizes: dict[str, int] = field(default_factory=dict[str, int])

    def look(self, works: Iterable[BranchWork], at: float) -> None:
        """Emits the heartbeats and warnings that are due. Called about five times a second by the fan-out."""
        for work in works:
            key = work.branch.key
            self._tick_if_grown(work)
            if at - self._beaten.setdefault(key, at) >= HEARTBEAT_S:
                self._beaten[key] = at
                self._emit_heartbeat(work, at)

    def _tick_if_grown(self, work: BranchWork) -> None:
        """Resets the progress clock when a branch's stream has grown. A branch in another process cannot reset this process's
        clock."""
        try:
            size = work.directory.progress.stat().st_size
        except OSError:
            return
        if size != self._sizes.get(work.branch.key):
            self._sizes[work.branch.key] = size
            self.lane.clock.tick()

    def _emit_heartbeat(self, work: BranchWork, at: float) -> None:
        last = _last_event(work)
        if last is None:
            return
        name, moment = last
        idle_ms = max(0, round((now() - moment).total_seconds() * 1000))
        key = work.branch.key
        beat = BranchHeartbeat(
            branch_key=key,
            branch_logs_root=str(work.directory.path),
            branch_last_event=name,
            branch_last_event_at=rfc3339(moment),
            branch_idle_ms=idle_ms,
        )
        self.lane.emit(beat)
        if idle_ms >= STALE_S * 1000 and at - self._warned.get(key, -_WARN_AGAIN_S) >= _WARN_AGAIN_S:
            self._warned[key] = at
            self.lane.emit(BranchStaleWarning(**asdict(beat)))


def _last_event(work: BranchWork) -> tuple[str, datetime] | None:
    try:
        event = parse_line(read_file(work.directory.live) or b"")
        return (str(event["event"]), read_rfc3339(str(event.get("ts")))) if event is not None else None
    except (RunDirectoryError, ValueError):
        return None  # damaged by a stage; the branch's next event replaces the file
