"""A stage's directory: earlier visits and attempts, status.json in and out."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kilroy_engine.errors import CorruptRecord
from kilroy_engine.rundir.stages.stage_files import (
    begin_attempt,
    begin_visit,
    begun_visits,
    decode_status,
    read_status,
    write_status,
)
from kilroy_engine.traversal.outcome import Outcome, failure, success

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
contexts = st.dictionaries(st.text(), json_values, max_size=4)


def names(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_an_earlier_visit_is_moved_aside_whole(tmp_path: Path) -> None:
    """Everything but visit_* goes to the next visit_k, attempts too (Kilroy: revisit archival)."""
    stage = tmp_path / "fix"
    begin_visit(stage)
    assert names(stage) == []
    for visit in (1, 2):
        begin_attempt(stage, 1)
        (stage / "stdout.log").write_text(f"visit {visit}")
        write_status(stage, failure("exit status 1"))
        begin_attempt(stage, 2)
        begin_visit(stage)
    kept = ["attempt_1/status.json", "attempt_1/stdout.log", "stdout.log"]
    assert names(stage) == [f"visit_{visit}/{name}" for visit in (1, 2) for name in kept]
    assert (stage / "visit_2" / "stdout.log").read_text() == "visit 2"


def test_an_earlier_attempts_files_are_copied_and_its_status_removed(tmp_path: Path) -> None:
    """Plain files go to attempt_<n-1>, folders stay where they are, a stale status.json cannot decide the next attempt."""
    (tmp_path / "browser").mkdir()
    (tmp_path / "stderr.log").write_text("boom")
    write_status(tmp_path, failure("exit status 1"))
    begin_attempt(tmp_path, 2)
    assert names(tmp_path) == ["attempt_1/status.json", "attempt_1/stderr.log", "stderr.log"]
    begin_attempt(tmp_path, 3)
    assert names(tmp_path / "attempt_2") == ["stderr.log"]


def test_status_json_has_kilroys_shape(tmp_path: Path) -> None:
    """Field order of runtime/status.go; empty fields are left out. What is known of a failure stands in meta, and nothing of
    the engine's own."""
    write_status(tmp_path, success())
    assert (tmp_path / "status.json").read_text() == '{\n  "status": "success"\n}'
    outcome = Outcome(
        status="fail",
        preferred_label="Retry",
        suggested_next_ids=("b",),
        context_updates={"k": 1},
        notes="n",
        failure_reason="exit status 1",
        failure_class="deterministic",
        verification={"status": "failed"},
        details=["d"],
        failure_signature="s",
        timed_out=True,
        retries=2,
        session="s-1",
        output_digest="c0ffee",
        committed="c0ffee",
        loop_file_seen=True,
    )
    write_status(tmp_path, outcome)
    written = json.loads((tmp_path / "status.json").read_bytes())
    assert list(written) == [
        "status",
        "preferred_label",
        "suggested_next_ids",
        "context_updates",
        "notes",
        "failure_reason",
        "verification",
        "details",
        "meta",
    ]
    assert written["meta"] == {"timeout": True, "failure_signature": "s", "failure_class": "deterministic"}
    own = {"retries": 0, "session": "", "output_digest": "", "committed": "", "loop_file_seen": None}
    assert read_status(tmp_path).outcome == outcome.with_updates(**own)


def test_a_failure_never_has_a_blank_reason(tmp_path: Path) -> None:
    """Kilroy's text fills the gap, when written and when read."""
    write_status(tmp_path, failure(" "))
    assert json.loads((tmp_path / "status.json").read_bytes())["failure_reason"] == (
        'failure_reason must be non-empty when status="fail"'
    )
    read = decode_status(b'{"status": "RETRY"}', tmp_path)
    assert (read.status, read.failure_reason) == ("retry", 'failure_reason must be non-empty when status="retry"')


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"status":" OK ","notes":null,"outcome":"fail","x":1}', Outcome("success")),
        ('{"status":"approved","suggested_next_ids":["a","b"]}', Outcome("approved", suggested_next_ids=("a", "b"))),
        (
            '{"status":"fail","failure_reason":"r","failure_class":"structural","failure_signature":"s","meta":{"k":1}}',
            Outcome("fail", failure_reason="r", failure_class="structural", failure_signature="s", meta={"k": 1}),
        ),
        ('{"outcome":"success","preferred_next_label":"Yes"}', Outcome("success", preferred_label="Yes")),
        ('{"status":"success","preferred_label":7,"outcome":"partialsuccess"}', Outcome("partial_success")),
        ('{"status":"","outcome":"skip"}', Outcome("skipped")),
        ('{"outcome":"fail","failure_reason":"r","details":"d"}', Outcome("fail", failure_reason="r", details="d")),
        ('{"outcome":"error","details":" why "}', Outcome("fail", failure_reason="why", details=" why ")),
        ('{"outcome":"fail","details":["a","b"]}', Outcome("fail", failure_reason="a; b", details=["a", "b"])),
        (
            '{"outcome":"fail","details":{"message":"m","reason":"r"}}',
            Outcome("fail", failure_reason="r", details={"message": "m", "reason": "r"}),
        ),
        ('{"outcome":"fail","details":{"n":1}}', Outcome("fail", failure_reason='{"n":1}', details={"n": 1})),
        ('{"outcome":"fail","notes":"seen"}', Outcome("fail", failure_reason="seen", notes="seen")),
        ('{"outcome":"fail"}', Outcome("fail", failure_reason="legacy fail outcome missing failure_reason")),
    ],
)
def test_both_shapes_of_a_status_are_read(tmp_path: Path, text: str, expected: Outcome) -> None:
    """Kilroy's decoding rules: canonical first, the older shape second, reasons of the older one derived."""
    (tmp_path / "status.json").write_text(text)
    assert read_status(tmp_path).outcome == expected


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", '"success"', "{}", '{"status":""}', '{"status":7}', '{"status":"success","notes":NaN}', '{"outcome":""}'],
)
def test_a_status_that_cannot_be_read_decides_nothing(tmp_path: Path, text: str) -> None:
    """It is ignored, as in Kilroy; asked directly, the error names the file."""
    assert read_status(tmp_path).outcome is None
    (tmp_path / "status.json").write_text(text)
    assert read_status(tmp_path).outcome is None
    with pytest.raises(CorruptRecord, match=r"status\.json"):
        decode_status(text.encode(), tmp_path / "status.json")


def test_half_a_character_becomes_the_replacement_character(tmp_path: Path) -> None:
    """A lone surrogate in an agent's JSON does not make later files unwritable."""
    (tmp_path / "status.json").write_text('{"status":"success","notes":"a\\ud800b"}')
    outcome = read_status(tmp_path).outcome
    assert outcome == success("a\ufffdb")


@given(contexts, st.text(), st.lists(st.text(), max_size=3), json_values)
def test_what_is_written_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, updates: dict[str, object], notes: str, ids: list[str], details: object
) -> None:
    """Any outcome of a handler survives status.json (empty containers and texts count as absent)."""
    folder = tmp_path_factory.mktemp("stage")
    outcome = Outcome("success", notes=notes, suggested_next_ids=tuple(ids), context_updates=updates, details=details or None)
    write_status(folder, outcome)
    assert read_status(folder).outcome == outcome


def test_an_interrupted_move_of_a_visit_is_completed(tmp_path: Path) -> None:
    """A process killed while it moved an earlier visit aside leaves one visit, not two halves."""
    stage = tmp_path / "fix"
    begin_visit(stage)
    for name in ("stdout.log", "stderr.log", "status.json"):
        (stage / name).write_text(name)
    (stage / ".tmp-visit").mkdir()
    (stage / "stderr.log").rename(stage / ".tmp-visit" / "stderr.log")
    assert begun_visits(stage) == 1
    begin_visit(stage)
    assert names(stage) == ["visit_1/status.json", "visit_1/stderr.log", "visit_1/stdout.log"]


def test_begun_visits_are_counted(tmp_path: Path) -> None:
    """An empty directory has none; the files of the latest count as one, each visit_k as one more."""
    stage = tmp_path / "fix"
    assert begun_visits(stage) == 0
    for visit in (0, 1):
        begin_visit(stage)
        assert begun_visits(stage) == visit
        (stage / "stdout.log").write_text("")
        assert begun_visits(stage) == visit + 1
