"""Files that are whole or absent."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest

from kilroy_engine.errors import RunDirectoryError
from kilroy_engine.events.times import read_rfc3339, rfc3339_ns
from kilroy_engine.rundir.files import atomic
from kilroy_engine.rundir.files.atomic import replace_quickly, write_json, write_text


@pytest.mark.parametrize("durable", [True, False])
def test_json_files_are_written_as_kilroy_writes_them(tmp_path: Path, *, durable: bool) -> None:
    """Two-space indent, keys in their own order, no newline at the end; text is not HTML-escaped."""
    path = tmp_path / "x.json"
    for value in ({"a": 0}, {"b": ["<&>", "ü"], "a": {"c": None}}):
        write_json(path, value, durable=durable)
    assert path.read_text() == '{\n  "b": [\n    "<&>",\n    "ü"\n  ],\n  "a": {\n    "c": null\n  }\n}'
    assert [entry.name for entry in tmp_path.iterdir()] == ["x.json"]


def test_files_are_readable_for_the_group(tmp_path: Path) -> None:
    """The umask decides, not the 0600 of a temporary file."""
    previous = os.umask(0o027)
    try:
        write_json(tmp_path / "x.json", {})
    finally:
        os.umask(previous)
    assert stat.S_IMODE((tmp_path / "x.json").stat().st_mode) == 0o640


def test_a_value_without_json_form_is_refused_and_the_old_file_stays(tmp_path: Path) -> None:
    """A foreign object has no JSON form; what was there before is not lost."""
    path = tmp_path / "checkpoint.json"
    write_json(path, {"old": True})

    with pytest.raises(RunDirectoryError, match=r"cannot write .*checkpoint\.json"):
        write_json(path, {"x": object()})

    assert json.loads(path.read_bytes()) == {"old": True}


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_number_without_json_form_becomes_null(tmp_path: Path, value: float) -> None:
    """NaN and the infinities would make a file that other readers cannot read."""
    path = tmp_path / "checkpoint.json"

    write_json(path, {"x": value})

    assert path.read_bytes() == b'{\n  "x": null\n}'


@pytest.mark.parametrize("value", [2**70, "\ud800", {1: "a key that is no text"}])
def test_rare_values_are_written_all_the_same(tmp_path: Path, value: object) -> None:
    """What the fast encoder refuses takes the slow way: large integers, half a character, keys that are no text."""
    path = tmp_path / "checkpoint.json"

    write_json(path, {"x": value})

    assert json.loads(path.read_text(encoding="utf-8"))["x"] in (2**70, "\ufffd", {"1": "a key that is no text"})


def test_a_disk_error_names_the_file(tmp_path: Path) -> None:
    """The message says what could not be written and why."""
    with pytest.raises(RunDirectoryError, match=r"cannot write .*missing/x: No such file or directory"):
        write_text(tmp_path / "missing" / "x", "text")


def test_a_system_without_exchange_replaces_by_rename(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """macOS and some file systems have no exchange of names; the result is the same."""
    monkeypatch.setattr(atomic, "_renameat2", None)
    (tmp_path / "new").write_text("new")
    (tmp_path / "live.json").write_text("old")
    replace_quickly(tmp_path / "new", tmp_path / "live.json")
    assert (tmp_path / "live.json").read_text() == "new"
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("nanoseconds", "text"),
    [
        (1_767_319_445_000_000_000, "2026-01-02T02:04:05Z"),
        (1_767_319_445_100_000_000, "2026-01-02T02:04:05.1Z"),
        (1_767_319_445_123_456_789, "2026-01-02T02:04:05.123456789Z"),
        (1_767_319_445_000_000_001, "2026-01-02T02:04:05.000000001Z"),
    ],
)
def test_times_are_rfc3339_without_trailing_zeros(nanoseconds: int, text: str) -> None:
    """Kilroy's format, read back to the microsecond."""
    assert rfc3339_ns(nanoseconds) == text
    assert int(read_rfc3339(text).timestamp() * 1_000_000) == nanoseconds // 1000
