"""Events as lines for people."""

from __future__ import annotations

import dataclasses
import json
import runpy
from pathlib import Path
from string import Formatter
from typing import Any, get_args, get_origin, get_type_hints

import pytest

from kilroy_engine.cli.show.board import Board
from kilroy_engine.cli.show.event_text import Narrator, duration, one_line
from kilroy_engine.events import CATALOG, Event, field_names, to_line

GOLDEN = Path(__file__).parents[3] / "data" / "golden"
DOCS = Path(__file__).parents[4] / "docs"
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


# Written, and nothing to a person who follows a run: what they tell is in the lines before or after them.
FOR_PROGRAMS = {
    "branch_heartbeat",
    "checkpoint_saved",
    "deterministic_failure_cycle_check",
    "edge_condition_evaluated",
    "failure_dossier_updated",
    "git_push_start",
    "llm_tool_call_end",
    "llm_tool_call_start",
    "llm_turn_end",
    "loop_restart_signature",
    "setup_command_start",
    "stage_retry_blocked",
    "status_contract",
    "status_ingestion_decision",
    "subgraph_deterministic_failure_cycle_check",
}
UNWRITTEN = {kind.event for kind in runpy.run_path(str(DOCS / "generate.py"))["unwritten_events"]()}
ENVELOPE = {"id", "run_id", "ts"}


@pytest.mark.parametrize("kind", EVERY_EVENT, ids=lambda kind: kind.event)
def test_an_event_has_a_line_exactly_if_somebody_writes_it_for_people(kind: type[Event]) -> None:
    """A line for an event that nobody writes would be dead text; one that is written must not be shown as raw fields."""
    assert bool(kind.says) == (kind.event not in FOR_PROGRAMS | UNWRITTEN)


def test_what_is_for_programs_is_written() -> None:
    """An event that nobody writes any more leaves the list above."""
    assert FOR_PROGRAMS.isdisjoint(UNWRITTEN)
    assert {kind.event for kind in EVERY_EVENT} >= FOR_PROGRAMS | UNWRITTEN


@pytest.mark.parametrize("kind", EVERY_EVENT, ids=lambda kind: kind.event)
def test_a_line_names_fields_that_its_event_has(kind: type[Event]) -> None:
    """A misspelled name would be an empty place in the line. What stands as ``more`` is added by the narrator."""
    named = {field for _, field, spec, _ in Formatter().parse(kind.says) if field and spec != "more"}
    assert named <= {*field_names(kind), *ENVELOPE}


@pytest.mark.parametrize("kind", [kind for kind in EVERY_EVENT if kind.says], ids=lambda kind: kind.event)
def test_a_line_holds_the_words_of_its_event(kind: type[Event]) -> None:
    """What is fixed in the line stands in what a person sees, unless this very event goes without saying."""
    text = Narrator().text({**sample(kind), **SAID})
    fixed = [literal.strip() for literal, *_ in Formatter().parse(kind.says) if literal.strip()]
    assert text is not None
    assert [words for words in fixed if words not in text] == []
    assert text != Narrator().text({**sample(kind), **SAID, "event": "unknown"})


# Makes the events that sometimes go without saying worth a line.
SAID = {"attempt": 2, "will_retry": False, "branch_event": "stage_attempt_start", "selection_method": "weight"}


def test_what_goes_without_saying_is_not_said() -> None:
    """A retry that follows, the end of the only attempt, the only edge, and most of what happens in a branch."""
    narrator = Narrator()
    decision = {"event": "retry_decision", "node_id": "a", "attempt": 2, "will_retry": False}
    assert narrator.text(decision) == "a: not tried again after attempt 2"
    assert narrator.text({**decision, "will_retry": True}) is None
    assert narrator.text({**decision, "attempt": 1}) is None
    edge = {"event": "edge_selected", "from_node": "a", "to_node": "b", "selection_method": "only_edge"}
    assert narrator.text(edge) is None
    assert narrator.text({**edge, "condition": "outcome=success"}) == "a -> b [outcome=success]"
    branch = {"event": "branch_progress", "branch_key": "b", "branch_event": "checkpoint_saved"}
    assert narrator.text(branch) is None
    failed = {
        "branch_event": "stage_attempt_end",
        "branch_node_id": "n",
        "branch_status": "fail",
        "branch_failure_reason": "no",
    }
    assert narrator.text({**branch, **failed}) == "branch b n: fail: no"


def test_values_are_put_into_words() -> None:
    """Durations, counts, choices, costs, and what stands in for nothing."""
    told = {
        "loop_terminated": ({"loop_id": "l", "iterations": 1}, "loop l: over after 1 iteration"),
        "stage_retry_sleep": (
            {"node_id": "a", "delay_ms": 1500, "retries": 1, "max_retry": 2}, "a: next attempt in 1.50 s (retry 1 of 2)"
        ),
        "human_gate_opened": (
            {"node_id": "a", "question": "Ship?", "choices": ["Yes", "No"], "answer_url": "http://x"},
            "a: waiting for a person: Ship? [Yes, No] -- answer at http://x",
        ),
        "artifact": ({"node_id": "", "name": "plan", "path": "p"}, "input: artifact plan (p)"),
        "llm_usage": (
            {"node_id": "a", "model": "m", "input_tokens": 5, "output_tokens": 2, "cost_usd": 0.5},
            "a: m: 5 tokens in, 2 out, 0.5000 USD",
        ),
    }  # fmt: skip
    for name, (fields, line) in told.items():
        assert Narrator().text({"event": name, **fields}) == line


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
