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
    """One arrival at a node. ``status`` is empty while it runs, :data:`INTERRUPTED` when it never came to an outcome.

    ``restart`` is the ``restart-N`` that it belongs to, 0 for the run directory itself; ``number`` counts in there. Times are
    aware; ``ended_at`` is the last attempt's end.
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
        """Which visit it is, for people: ``2``, or ``restart 1, 2``."""
        return f"restart {self.restart}, {self.number}" if self.restart else str(self.number)

    def stage_dir(self, run: RunDirectory) -> Path:
        """The folder of its files, as long as the node is not visited again."""
        return (run.restart(self.restart) if self.restart else run).stage(self.node_id)

    @property
    def duration_s(self) -> float | None:
        """Seconds from the first attempt's start to the last attempt's end; None while it runs."""
        return (self.ended_at - self.started_at).total_seconds() if self.ended_at else None


def read_visits(events: Iterable[Mapping[str, object]]) -> tuple[VisitRecord, ...]:
    """Folds ``stage_attempt_start`` and ``stage_attempt_end`` lines of the main stream into visits.

    A first attempt opens a visit; later attempts belong to the newest visit of their node. When the run ends or is resumed,
    nothing runs any more. ``events`` are those of the run with its restarts, as ``tail_events`` gives them.
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
    """Status of each node's last visit; ``running`` where it has none yet."""
    return {visit.node_id: visit.status or "running" for visit in visits}


def taken_edges(visits: Iterable[VisitRecord]) -> tuple[tuple[str, str], ...]:
    """Pairs of nodes in the order the run went from one to the next, without repetitions."""
    path = [visit.node_id for visit in visits]
    return tuple(dict.fromkeys(pairwise(path)))
