"""The path that a run took, read back from its events: one record per visit, in order."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import pairwise
from pathlib import Path

from kilroy_engine.events import TERMINAL_EVENTS, LoopRestart, RunResumed
from kilroy_engine.events.times import read_rfc3339
from kilroy_engine.rundir.files.layout import RunDirectory

INTERRUPTED = "interrupted"
_NOTHING_RUNS = TERMINAL_EVENTS | {RunResumed.event}


@dataclass(frozen=True, slots=True)
class VisitRecord:
    """One visit of a node.

    - ``number``: counted from 1 for each node, within a restart.
    - ``status``: empty while the visit runs, :data:`INTERRUPTED` when the visit came to no outcome.
    - ``started_at``, ``ended_at``: aware times of the first attempt's start and the last attempt's end.
    - ``restart``: the ``restart-N`` of the visit, 0 for the run directory itself.
    """

    node_id: str
    number: int
    attempts: int
    max_attempts: int
    status: str
    failure_reason: str
    started_at: datetime
    ended_at: datetime | None = None
    restart: int = 0

    @property
    def which(self) -> str:
        """The visit's number for people: ``2``, or ``restart 1, 2``."""
        return f"restart {self.restart}, {self.number}" if self.restart else str(self.number)

    def stage_dir(self, run: RunDirectory) -> Path:
        """The visit's stage directory. Its files are moved from there when the node is visited again."""
        return (run.restart(self.restart) if self.restart else run).stage(self.node_id)

    @property
    def duration_s(self) -> float | None:
        """Seconds from the first attempt's start to the last attempt's end; None while the visit runs."""
        return (self.ended_at - self.started_at).total_seconds() if self.ended_at else None


def read_visits(events: Iterable[Mapping[str, object]]) -> tuple[VisitRecord, ...]:
    """Makes visits from ``stage_attempt_start`` and ``stage_attempt_end`` events. ``events`` come from ``tail_events``.

    A first attempt begins a visit. A later attempt belongs to its node's newest visit. When the run ends or is resumed, every
    visit without a status was interrupted.
    """
    visits: list[VisitRecord] = []
    newest: dict[str, int] = {}
    restart = 0
    for event in events:
        name = event.get("event")
        if name == LoopRestart.event:
            restart = _whole(event.get("restart_count"))
            newest.clear()
        if name in _NOTHING_RUNS:
            visits = [visit if visit.status else replace(visit, status=INTERRUPTED) for visit in visits]
        if name not in ("stage_attempt_start", "stage_attempt_end"):
            continue
        node_id, attempt, at = event.get("node_id"), _whole(event.get("attempt")), _moment(event.get("ts"))
        if not isinstance(node_id, str) or at is None:
            continue  # not written by the engine
        if name == "stage_attempt_start" and (attempt == 1 or node_id not in newest):
            number = visits[newest[node_id]].number + 1 if node_id in newest else 1
            newest[node_id] = len(visits)
            visits.append(VisitRecord(node_id, number, attempt, _whole(event.get("max")), "", "", at, restart=restart))
            continue
        if node_id not in newest:
            continue
        place = newest[node_id]
        if name == "stage_attempt_start":
            visits[place] = replace(visits[place], attempts=attempt, status="", ended_at=None)
        else:
            visits[place] = replace(
                visits[place],
                attempts=attempt,
                status=str(event.get("status", "")),
                failure_reason=str(event.get("failure_reason", "")),
                ended_at=at,
            )
    return tuple(visits)


def _whole(value: object) -> int:
    return value if isinstance(value, int) else 0


def _moment(value: object) -> datetime | None:
    try:
        return read_rfc3339(str(value))
    except ValueError:
        return None


def last_statuses(visits: Iterable[VisitRecord]) -> dict[str, str]:
    """The status of each node's last visit; ``running`` where the visit has none yet."""
    return {visit.node_id: visit.status or "running" for visit in visits}


def taken_edges(visits: Iterable[VisitRecord]) -> tuple[tuple[str, str], ...]:
    """The pairs of nodes that follow each other in ``visits``, in order, without repetitions."""
    path = [visit.node_id for visit in visits]
    return tuple(dict.fromkeys(pairwise(path)))
