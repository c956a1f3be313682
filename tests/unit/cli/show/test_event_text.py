"""Events as lines for people."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

import pytest

from kilroy_engine.cli.show.board import Board
from kilroy_engine.cli.show.event_text import Narrator, duration, one_line
from kilroy_engine.events import CATALOG, Event, to_line

GOLDEN = Path(__file__).parents[3] / "data" / "golden"
EVERY_EVENT = [kind for kinds in CATALOG.values() for kind in kinds]


def sample(kind: type[Event]) -> dict[str, Any]:
    """An event of this kind with a value of the right type in every required field, as it is read back from the stream."""
    hints = get_type_hints(kind, include_extras=False)
    values = {
        field.name: _value(hints[field.name])
        for field in dataclasses.fields(kind)
        if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
    }
    return json.loads(to_line(kind(**values), "01RUN"))


def _value(hint: Any) -> object:
    if hint is str:
        return "word"
    if hint in (int, float, bool):
        return hint(2)
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is tuple:
        return ()
    if origin is None:
        raise TypeError(f"no sample for {hint}")
    return {} if origin is dict else (arguments[0] if not isinstance(arguments[0], type) else _value(arguments[0]))


@pytest.mark.parametrize("kind", EVERY_EVENT, ids=lambda kind: kind.event)
def test_every_event_of_the_contract_is_a_line_or_silent(kind: type[Event]) -> None:
    """No event breaks the narrator or the board, whichever fields it leaves out; a line is one line."""
    event = sample(kind)
    text = Narrator().text(event)
    assert text is None or (text and "\n" not in text)
    assert text is None or "None" not in text
    Board().apply(event)


def test_an_event_of_a_later_version_is_shown_as_it_is() -> None:
    """Unknown events may appear at any time; people see their name and fields."""
    assert Narrator().text({"event": "new_thing", "id": "00000000", "ts": "x", "run_id": "r", "a": 1}) == "new_thing a=1"


def test_a_stages_end_tells_how_long_it_took_and_why_it_failed() -> None:
    """The time comes from the event of its start."""
    narrator = Narrator()
    started = {"event": "stage_attempt_start", "node_id": "a", "attempt": 2, "max": 3, "ts": "2026-01-02T03:04:05Z"}
    ended = {
        "event": "stage_attempt_end", "node_id": "a", "attempt": 2, "max": 3, "status": "fail",
        "failure_reason": "exit status 1", "ts": "2026-01-02T03:04:07.5Z",
    }  # fmt: skip
    assert narrator.text(started) == "a: started (attempt 2 of 3)"
    assert narrator.text(ended) == "a: fail (2.50 s): exit status 1"


def test_text_from_a_run_cannot_steer_the_terminal() -> None:
    """Escape sequences and newlines in reasons and questions are shown as plain characters."""
    event = {"event": "run_failed", "status": "fail", "reason": "\x1b[2J\x07first\nsecond", "ts": "2026-01-02T03:04:05Z"}
    text = Narrator().text(event)
    assert text == "run fail: ?[2J?first second"


def test_long_text_is_cut() -> None:
    """A stage's reason may be a whole log."""
    assert len(one_line("x" * 10_000)) == 400


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0.00 s"), (-1, "0.00 s"), (9.994, "9.99 s"), (12.34, "12.3 s"), (185, "3 m 05 s"), (7440, "2 h 04 m")],
)
def test_durations_are_short(seconds: float, text: str) -> None:
    """Two units at most."""
    assert duration(seconds) == text


@pytest.mark.parametrize("case", ["06a-retry-flaky-3rd", "03a-fail-unconditional-edge-continues"])
def test_the_board_shows_a_recorded_run_as_its_visits(case: str) -> None:
    """A run recorded from Kilroy: one row per visit, with the last attempt's status, however many attempts it took."""
    recorded = json.loads((GOLDEN / case / "recorded.json").read_text())
    board = Board()
    over = [row for event in recorded["events"] for row in board.apply(event)]
    over += board.rows
    attempts = [event["attempt"] for event in recorded["events"] if event["event"] == "stage_attempt_end"]
    assert [row.node_id for row in over] == [node for node in recorded["completed_nodes"] if node != "exit"]
    assert [row.status for row in over] == [recorded["node_status"][row.node_id]["status"] for row in over]
    assert sum(row.attempt for row in over) == len(attempts)
