"""Visits read back from events."""

from __future__ import annotations

from kilroy_engine.rundir.stream.visits import last_statuses, read_visits

AT = "2026-01-01T00:00:0{}Z"


def started(node: str, second: int) -> dict[str, object]:
    return {"event": "stage_attempt_start", "node_id": node, "attempt": 1, "max": 1, "ts": AT.format(second)}


def ended(node: str, second: int) -> dict[str, object]:
    return {"event": "stage_attempt_end", "node_id": node, "attempt": 1, "status": "success", "ts": AT.format(second)}


def test_a_visit_without_an_end_was_interrupted_once_nothing_runs_any_more() -> None:
    """The run was killed in ``b`` and resumed: the first visit never ends, the second one is at work."""
    events = [started("a", 0), ended("a", 1), started("b", 2)]
    assert [visit.status for visit in read_visits(events)] == ["success", ""]

    events.append({"event": "run_failed", "ts": AT.format(3)})
    assert [visit.status for visit in read_visits(events)] == ["success", "interrupted"]

    events += [{"event": "run_resumed", "ts": AT.format(4)}, started("b", 5)]
    visits = read_visits(events)
    assert [(visit.node_id, visit.number, visit.status) for visit in visits] == [
        ("a", 1, "success"),
        ("b", 1, "interrupted"),
        ("b", 2, ""),
    ]
    assert last_statuses(visits) == {"a": "success", "b": "running"}
