"""The run's watcher: a thread that keeps the lock fresh and turns a deadline, a cancel, a stop request or a stall into a stop.

Prefect does not tell a directly called flow about a cancel, and nobody else checks the run's deadline while a tool runs. A
worker signals a cancel to a supervised run within 0.2 s. The watcher of a supervised run polls less often and waits for the
worker's signal before it acts. If the worker was killed, its flows still run, and only the watcher notices a cancel.
"""

from __future__ import annotations

import threading
import time
from contextlib import AbstractContextManager

from kilroy_engine.errors import RunDirectoryError, StopKind
from kilroy_engine.events import StallWatchdogTimeout
from kilroy_engine.execution.run import Run
from kilroy_engine.execution.stall import stall_reason
from kilroy_engine.rundir.files.records import CancelRequest
from kilroy_engine.rundir.ownership.ownership import TOUCH_INTERVAL_S
from kilroy_engine.settings.table import RunSettings
from kilroy_engine.threads import beside

IN_PREFECT = "in the Prefect UI or API"
POLL_INTERVAL_S = 2.0
SUPERVISED_POLL_INTERVAL_S = 5.0
SUPERVISOR_PATIENCE_S = 5.0
"""How long the watcher of a supervised run waits for the supervisor to stop the run."""
_TICK_S = 0.2
_JOIN_S = 5.0


def watching(run: Run, settings: RunSettings) -> AbstractContextManager[None]:
    """Runs the watcher's thread for the length of the ``with`` block."""
    watcher = Watcher(run, settings)

    def watch(finished: threading.Event) -> None:
        while not finished.wait(_TICK_S):
            watcher.look(time.monotonic())

    run.started.progress.listen(run.clock.heard)
    return beside(watch, name="kilroy-watch", join_s=_JOIN_S)


class Watcher:
    """The checks that the thread makes at each look. Times are those of ``time.monotonic``."""

    def __init__(self, run: Run, settings: RunSettings) -> None:
        self._run, self._settings = run, settings
        self._supervised = run.identity.supervised
        self._poll_interval_s = SUPERVISED_POLL_INTERVAL_S if self._supervised else POLL_INTERVAL_S
        self._patience_s = SUPERVISOR_PATIENCE_S if self._supervised else 0.0
        limit_s = settings.run_timeout_s
        self._deadline = None if limit_s is None else time.monotonic() + limit_s
        self._next_touch = self._next_poll = 0.0
        self._wanted_since: dict[str, float] = {}

    def look(self, now: float) -> None:
        """Checks the deadline, the disk, the server and the progress clock. Asks the run to stop if one of them demands a
        stop."""
        cancellation = self._run.cancellation
        if self._deadline is not None and now >= self._deadline:
            cancellation.request(StopKind.DEADLINE, f"run deadline of {self._settings.run_timeout_s:g}s")
        self._keep_lock(now)
        if request := self._stop_requested():
            self._request(request.kind, request.source, now)
        if now >= self._next_poll and not cancellation.requested:
            self._next_poll = now + self._poll_interval_s
            if self._run.orchestrator.is_canceled(self._run.identity):
                self._request(StopKind.PREFECT, IN_PREFECT, now)
        self._run.budget.look()
        self._check_stall()

    def _request(self, kind: StopKind, told: str, now: float) -> None:
        since = self._wanted_since.setdefault(told, now)
        if now - since >= self._patience_s:
            self._run.cancellation.request(kind, told)

    def _keep_lock(self, now: float) -> None:
        try:
            self._run.started.lock.restore()  # some microseconds where nothing was done to it
            if now >= self._next_touch:
                self._next_touch = now + TOUCH_INTERVAL_S
                self._run.started.lock.touch()
        except (RunDirectoryError, OSError):
            pass  # a disk that refuses this for a moment must not take the watch over everything else away

    def _stop_requested(self) -> CancelRequest | None:
        try:
            return self._run.stop_requested()
        except RunDirectoryError:
            return None  # damaged or out of reach; the next look reads it again

    def _check_stall(self) -> None:
        limit_s = self._settings.stall_timeout_s
        idle_s = None if limit_s is None else self._run.clock.stalled_for(limit_s)
        if limit_s is None or idle_s is None or self._run.cancellation.requested:
            return
        try:
            self._run.emit(StallWatchdogTimeout(stall_timeout_ms=round(limit_s * 1000), idle_ms=round(idle_s * 1000)))
        finally:
            self._run.cancellation.request(StopKind.STALL, stall_reason(limit_s))
