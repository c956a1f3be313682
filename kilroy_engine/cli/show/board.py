"""Computes from a run's events which visits are at work now, for the live view. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from kilroy_engine.cli.show.event_text import moment_of, one_line

Event = Mapping[str, Any]

_SAME_VISIT = frozenset(
    {
        "artifact",
        "failure_dossier_updated",
        "llm_usage",
        "output_contract_violated",
        "stage_heartbeat",
        "stage_retry_blocked",
        "stage_retry_sleep",
        "status_ingestion_decision",
        "warning",
    }
)
"""Events that may follow the end of an attempt before the visit is over."""


@dataclass(frozen=True, slots=True)
class BoardRow:
    """One visit of one node. ``status`` is ``running``, ``retrying``, ``waiting``, or the status of the last attempt.

    ``node_id`` of a branch's stage reads ``<branch>/<node>``. Times have a time zone. ``ended_at`` is the last attempt's end.
    """

    node_id: str
    visit: int
    attempt: int
    max_attempts: int
    status: str
    started_at: datetime
    ended_at: datetime | None = None
    detail: str = ""

    @property
    def open(self) -> bool:
        """Whether the visit is running, retrying or waiting."""
        return self.status in ("running", "retrying", "waiting")

    def elapsed_s(self, now: datetime) -> float:
        """Seconds from the first attempt's start to the last attempt's end, or to ``now`` while the visit is open."""
        return ((self.ended_at if not self.open and self.ended_at else now) - self.started_at).total_seconds()


class Board:
    """The rows of the visits that are not over. :meth:`apply` takes every event of the stream, oldest first."""

    def __init__(self) -> None:
        self._rows: dict[str, BoardRow] = {}
        self._visits: dict[str, int] = {}

    @property
    def rows(self) -> tuple[BoardRow, ...]:
        """Visits that are not over, in the order they began."""
        return tuple(self._rows.values())

    def apply(self, event: Event) -> tuple[BoardRow, ...]:
        """Updates the rows by one event. Removes and returns the visits that the event shows to be over."""
        event = _of_branch(event) if event.get("event") == "branch_progress" else event
        name, node_id = str(event.get("event", "")), str(event.get("node_id", ""))
        moment = moment_of(event) or datetime.now(UTC)
        row = self._rows.get(node_id)
        if name == "loop_restart":
            self._visits.clear()
        if name == "stage_attempt_start":
            return self._attempt_started(event, node_id, moment)
        if row is not None and self._changed(row, name, event, moment):
            return ()
        return () if name in _SAME_VISIT else self._take_ended()

    def _attempt_started(self, event: Event, node_id: str, moment: datetime) -> tuple[BoardRow, ...]:
        attempt, limit = (value if isinstance(value := event.get(key), int) else 1 for key in ("attempt", "max"))
        row = self._rows.get(node_id)
        if row is not None and attempt > 1:
            self._rows[node_id] = replace(row, attempt=attempt, max_attempts=limit, status="running", detail="")
            return ()
        over = self._take_ended()
        self._visits[node_id] = self._visits.get(node_id, 0) + 1
        self._rows[node_id] = BoardRow(node_id, self._visits[node_id], attempt, limit, "running", moment)
        return over

    def _changed(self, row: BoardRow, name: str, event: Event, moment: datetime) -> bool:
        """Updates ``row`` by an event of its visit. False where the event changes no row."""
        changes: dict[str, Any]
        match name:
            case "stage_attempt_end":
                reason = one_line(event.get("failure_reason") or "")
                changes = {"status": str(event.get("status", "")), "ended_at": moment, "detail": reason}
            case "retry_decision":
                changes = {"status": "retrying"} if event.get("will_retry") else {}
            case "output_contract_violated":
                changes = {"status": "fail", "detail": one_line(event.get("failure_reason") or "")}
            case "human_gate_opened":
                changes = {"status": "waiting", "detail": one_line(event.get("question") or "")}
            case "human_gate_answered":
                changes = {"status": "running", "detail": ""}
            case _:
                return False
        self._rows[row.node_id] = replace(row, **changes)
        return True

    def _take_ended(self) -> tuple[BoardRow, ...]:
        over = tuple(row for row in self._rows.values() if not row.open)
        for row in over:
            del self._rows[row.node_id]
        return over


def _of_branch(event: Event) -> Event:
    """The branch's own event inside of a ``branch_progress`` event, with ``<branch>/<node>`` as its node."""
    inner = {"event": event.get("branch_event"), "ts": event.get("ts")}
    inner |= {key.removeprefix("branch_"): value for key, value in event.items() if key.startswith("branch_")} | inner
    return {**inner, "node_id": f"{event.get('branch_key')}/{event.get('branch_node_id')}"}
