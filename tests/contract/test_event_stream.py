"""progress.ndjson and live.json: what readers see while several processes write."""

from __future__ import annotations

import json
import multiprocessing
import re
import threading
from pathlib import Path

from appending_writers import append_at_once

from kilroy_engine.events import StageAttemptEnd, StageAttemptStart, WarningGiven
from kilroy_engine.rundir.files.layout import RunDirectory
from kilroy_engine.rundir.stream.progress import ProgressLog, is_ended, last_event, read_events

KILROY_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{0,8}[1-9])?Z")


def test_lines_of_several_processes_are_whole_and_none_is_lost(tmp_path: Path) -> None:
    """Four processes append 250 lines each: every line is there once, in its writer's order."""
    append_at_once(tmp_path, processes=4, events=250, context=multiprocessing.get_context("spawn"))
    lines = (tmp_path / "progress.ndjson").read_bytes().split(b"\n")
    assert lines.pop() == b""
    events = [json.loads(line) for line in lines]
    told = [tuple(int(part) for part in event["message"].split(":")[:2]) for event in events]
    assert sorted(told) == [(writer, number) for writer in range(4) for number in range(250)]
    for writer in range(4):
        assert [number for who, number in told if who == writer] == list(range(250))
    assert json.loads((tmp_path / "live.json").read_bytes()) == events[-1]


def test_live_json_is_never_torn_or_missing_while_it_is_replaced(tmp_path: Path) -> None:
    """A reader that looks all the time always finds a whole event, short or long."""
    log = ProgressLog(RunDirectory(tmp_path), "r1")
    log.append(WarningGiven(message="first"))
    looked, done, broken = 0, threading.Event(), []

    def look() -> None:
        nonlocal looked
        while not done.is_set():
            try:
                json.loads((tmp_path / "live.json").read_bytes())
            except (ValueError, OSError) as error:
                broken.append(error)
            looked += 1

    reader = threading.Thread(target=look)
    reader.start()
    for number in range(1500):
        log.append(WarningGiven(message="x" * (number % 7 * 3000)))
    done.set()
    reader.join()
    assert broken == []
    assert looked > 100


def test_threads_of_one_process_share_a_log(tmp_path: Path) -> None:
    """Branches append from threads: 4 × 200 lines, all whole."""
    log = ProgressLog(RunDirectory(tmp_path), "r1")
    heard: list[object] = []
    log.listen(heard.append)
    threads = [threading.Thread(target=lambda: [log.append(WarningGiven(message="m")) for _ in range(200)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(list(read_events(tmp_path / "progress.ndjson"))) == len(heard) == 800


def test_every_line_has_kilroys_envelope(tmp_path: Path) -> None:
    """event, id (8 lower-case hex digits), run_id and ts (RFC 3339, no trailing zeros, Z); keys sorted; one newline."""
    log = ProgressLog(RunDirectory(tmp_path), "r1")
    log.append(StageAttemptStart(node_id="a", attempt=1, max=4))
    log.append(StageAttemptEnd(node_id="a", attempt=1, max=4, status="success"))
    for line in (tmp_path / "progress.ndjson").read_text().splitlines():
        event = json.loads(line)
        assert re.fullmatch(r"[0-9a-f]{8}", event["id"])
        assert KILROY_TIME.fullmatch(event["ts"])
        assert event["run_id"] == "r1"
        assert list(event) == sorted(event)
        assert ": " not in line
    assert json.loads(line)["failure_reason"] == ""
    assert (tmp_path / "live.json").read_text() == line + "\n"


def test_readers_pass_over_torn_lines_wherever_they_are(tmp_path: Path) -> None:
    """A torn line in the middle or at the end is no event; what is whole before it still counts."""
    path = tmp_path / "progress.ndjson"
    path.write_bytes(b'{"event":"run_started"}\n{"event":"wa\n\n{"event":"run_failed","status":"fail"}\n{"event":"st')
    assert [event["event"] for event in read_events(path)] == ["run_started", "run_failed"]
    assert last_event(path) == {"event": "run_failed", "status": "fail"}
    assert is_ended(path)
    path.write_bytes(b'{"event":"run_failed","status":"fail"}\n{"event":"run_resumed"}\n{"event":"st\n')
    assert not is_ended(path)
    path.write_bytes(b'{"event":"st')
    assert last_event(path) is None
    assert last_event(tmp_path / "missing") is None


def test_the_end_is_seen_behind_lines_longer_than_a_look(tmp_path: Path) -> None:
    """A last line of 300 kB is read whole."""
    log = ProgressLog(RunDirectory(tmp_path), "r1")
    log.append(WarningGiven(message="x" * 300_000))
    found = last_event(tmp_path / "progress.ndjson")
    assert found is not None
    assert len(str(found["message"])) == 300_000


def test_text_that_is_no_unicode_does_not_break_the_stream(tmp_path: Path) -> None:
    """A lone surrogate from some tool's JSON becomes U+FFFD; line separators stay inside the line."""
    log = ProgressLog(RunDirectory(tmp_path), "r1")
    log.append(WarningGiven(message="a\ud800b\u2028c\nd <&> ü"))
    (event,) = read_events(tmp_path / "progress.ndjson")
    assert event["message"] == "a\ufffdb\u2028c\nd <&> ü"
    assert b"<&> \xc3\xbc" in (tmp_path / "progress.ndjson").read_bytes()
