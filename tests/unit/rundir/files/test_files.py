"""Files that a stage can touch: what is read of them, and what a writer does with what is in its way."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from kilroy_engine.errors import CorruptRecord
from kilroy_engine.events import RunCompleted, WarningGiven
from kilroy_engine.events.encoding import from_json
from kilroy_engine.limits import JSON_DEPTH, LINE_BYTES
from kilroy_engine.rundir.files.atomic import append_whole, write_text
from kilroy_engine.rundir.files.inside import make_way_to, path_inside, read_inside, real_folders
from kilroy_engine.rundir.files.layout import RunDirectory
from kilroy_engine.rundir.files.regular import make_folder, read_file
from kilroy_engine.rundir.ownership.ownership import Owner, RunLock, find_record, owner_alive
from kilroy_engine.rundir.stages.branches import last_pass, pass_directory
from kilroy_engine.rundir.stages.stage_files import begin_attempt, begin_visit, read_status
from kilroy_engine.rundir.stream.progress import ProgressLog, is_ended, read_events


def test_only_plain_files_of_a_bounded_size_are_read(tmp_path: Path) -> None:
    """A file up to the limit is read, one byte more is too much, and nothing is None. The message names what is there."""
    path = tmp_path / "f"
    assert read_file(path) is None
    path.write_bytes(b"12345")
    assert read_file(path, limit_bytes=5) == b"12345"
    path.write_bytes(b"x" * ((1 << 20) + 1))
    with pytest.raises(CorruptRecord, match="holds more than 1 MiB"):
        read_file(path, limit_bytes=1 << 20)
    (tmp_path / "link").symlink_to(path)
    os.mkfifo(tmp_path / "pipe")
    for name, kind in (("link", "a link"), ("pipe", "a named pipe"), (".", "a folder")):
        with pytest.raises(CorruptRecord, match=f"is {kind}, and a file is expected there"):
            read_file(tmp_path / name)


def test_json_is_read_up_to_a_depth(tmp_path: Path) -> None:
    """JSON_DEPTH lists in one another are read, one more is no JSON for us, and neither is what exhausts a parser."""
    assert from_json(b"[" * JSON_DEPTH + b"]" * JSON_DEPTH)
    for content in (b"[" * (JSON_DEPTH + 1) + b"]" * (JSON_DEPTH + 1), b"[" * 500_000, b'{"a":' * 101 + b"1" + b"}" * 101):
        with pytest.raises(ValueError, match=f"more than {JSON_DEPTH} deep"):
            from_json(content)
    assert from_json(b"[" + b"[]," * 1000 + b"{}]")  # many, but beside one another


@pytest.mark.parametrize("kind", ["pipe", "link", "folder"])
def test_a_writer_sets_aside_what_is_in_its_way(kind: str, tmp_path: Path) -> None:
    """The file is written, a link's target is as it was, and what was there has another name."""
    victim = tmp_path / "victim"
    victim.write_text("precious")
    for name, write in (("a", lambda path: write_text(path, "new")), ("b", lambda path: append_whole(path, b"new"))):
        path = tmp_path / name
        match kind:
            case "pipe":
                os.mkfifo(path)
            case "link":
                path.symlink_to(victim)
            case _:
                (path / "inner").mkdir(parents=True)
        write(path)
        assert (path.read_text(), path.is_symlink()) == ("new", False)
    assert victim.read_text() == "precious"
    if kind == "folder":
        assert len([aside for aside in tmp_path.glob("*.aside-*") if (aside / "inner").is_dir()]) == 2


@pytest.mark.parametrize("kind", ["pipe", "link", "folder", "nothing"])
def test_a_stream_that_a_stage_replaces_begins_anew_and_ends(kind: str, tmp_path: Path) -> None:
    """Lines go to the file that readers find, so the terminal line is there at the end."""
    run, victim = RunDirectory(tmp_path / "run"), tmp_path / "victim"
    run.path.mkdir()
    victim.write_text("precious")
    log = ProgressLog(run, "r1")
    log.append(WarningGiven(message="before"))
    run.progress.unlink()
    match kind:
        case "pipe":
            os.mkfifo(run.progress)
        case "link":
            run.progress.symlink_to(victim)
        case "folder":
            run.progress.mkdir()
        case _:
            pass
    log.append(WarningGiven(message="after"))
    log.append(RunCompleted(start=1))
    log.close()
    assert [event["event"] for event in read_events(run.progress)] == ["warning", "run_completed"]
    assert is_ended(run.progress)
    assert victim.read_text() == "precious"


def test_lines_that_are_no_events_are_passed_over(tmp_path: Path) -> None:
    """A terminal line has a known status; a line longer than any event is none. What follows is read."""
    path = tmp_path / "progress.ndjson"
    good = b'{"event":"warning","message":"here"}\n'
    for line in (b'{"event":"run_failed"}', b'{"event":"run_failed","status":"broken"}', b'{"event":[]}', b"[" * 200_000, b"7"):
        path.write_bytes(good + line + b"\n")
        assert [event["event"] for event in read_events(path)] == ["warning"]
        assert not is_ended(path)
    with path.open("wb") as file:
        file.write(b'{"event":"')
        file.truncate(LINE_BYTES + 10)
        file.seek(0, os.SEEK_END)
        file.write(b"\n" + good)
    assert [event["message"] for event in read_events(path)] == ["here"]


@pytest.mark.parametrize("kind", ["pipe", "device", "large", "folder", "link"])
def test_a_status_file_that_is_no_plain_small_file_is_passed_over(kind: str, tmp_path: Path) -> None:
    """No outcome, a sentence that says why, and the next attempt begins without it."""
    status = tmp_path / "status.json"
    match kind:
        case "pipe":
            os.mkfifo(status)
        case "device":
            status.symlink_to("/dev/zero")
        case "large":
            status.write_text('{"status":"success","notes":"' + "n" * (1 << 20) + '"}')
        case "folder":
            status.mkdir()
        case _:
            (tmp_path / "real.json").write_text('{"status":"success"}')
            status.symlink_to(tmp_path / "real.json")
    assert read_status(tmp_path).outcome is None
    assert str(status) in read_status(tmp_path).problem
    begin_attempt(tmp_path, 2)
    assert not os.path.lexists(status)


def test_a_stage_directory_that_is_a_link_or_a_file_is_made_anew(tmp_path: Path) -> None:
    """A stage has put a link to a folder of the user's, or a file, in the place of its own directory."""
    victim = tmp_path / "victim"
    victim.mkdir()
    (victim / "precious").write_text("1")
    for name in ("linked", "file"):
        stage = tmp_path / name
        stage.symlink_to(victim) if name == "linked" else stage.write_text("x")
        begin_visit(stage)
        assert stage.is_dir()
        assert not stage.is_symlink()
    assert [path.name for path in victim.iterdir()] == ["precious"]
    make_folder(tmp_path / "linked")  # again, as it is


def test_what_an_earlier_visit_left_is_kept_where_a_stage_has_taken_its_name(tmp_path: Path) -> None:
    """Names of visits that have not been are no trouble, and nothing in them is lost."""
    stage = tmp_path / "stage"
    for name in ("visit_1", "visit_2", "visit_4"):
        (stage / name).mkdir(parents=True)
        (stage / name / "taken").write_text("x")
    (stage / "response.md").write_text("hello")
    begin_visit(stage)
    assert (stage / "visit_5" / "response.md").read_text() == "hello"
    assert len(list(stage.glob("visit_*/taken"))) == 3


def test_an_attempt_is_kept_without_following_links(tmp_path: Path) -> None:
    """A stage has put a link where a file of its first attempt goes."""
    begin_visit(tmp_path / "stage")
    (tmp_path / "precious").write_text("1")
    (tmp_path / "stage" / "response.md").write_text("hello")
    (tmp_path / "stage" / "attempt_1").mkdir()
    (tmp_path / "stage" / "attempt_1" / "response.md").symlink_to(tmp_path / "precious")
    begin_attempt(tmp_path / "stage", 2)
    assert (tmp_path / "stage" / "attempt_1" / "response.md").read_text() == "hello"
    assert (tmp_path / "precious").read_text() == "1"


@pytest.mark.parametrize("taken", ["parallel", "parallel/split", "parallel/split/pass1"])
def test_a_pass_of_a_fan_out_lies_in_the_run_itself(taken: str, tmp_path: Path) -> None:
    """A stage has put a link in the place of a folder on the way: no pass is found behind it, and none is made there."""
    run, elsewhere = RunDirectory(tmp_path / "run"), tmp_path / "elsewhere"
    (run.path / taken).parent.mkdir(parents=True)
    (elsewhere / "split" / "pass7").mkdir(parents=True)
    (elsewhere / "pass7").mkdir()
    (run.path / taken).symlink_to(elsewhere)
    assert last_pass(run, "split") == 0
    make_way_to(run.path, pass_directory(run, "split", 1).path)
    assert last_pass(run, "split") == 1
    assert sorted(path.name for path in elsewhere.rglob("*")) == ["pass7", "pass7", "split"]


def test_paths_inside_a_folder(tmp_path: Path) -> None:
    """Links that stay inside are followed; those that lead out, or in a circle, and names that do, are not."""
    root = tmp_path / "root"
    (root / "deep").mkdir(parents=True)
    (root / "deep" / "file").write_text("in")
    (tmp_path / "secret").write_text("out")
    (root / "in").symlink_to("deep/file")
    (root / "out").symlink_to(tmp_path / "secret")
    (root / "circle").symlink_to("circle")
    assert read_inside(root, "in", limit_bytes=10) == b"in"
    assert read_inside(root, "deep/../deep/file", limit_bytes=10) == b"in"
    assert read_inside(root, "missing", limit_bytes=10) is None
    for name in ("out", "circle", "../secret", str(tmp_path / "secret")):
        assert path_inside(root, name) is None
        with pytest.raises(CorruptRecord, match="leads out of"):
            read_inside(root, name, limit_bytes=10)


def test_folders_are_found_without_following_links(tmp_path: Path) -> None:
    """A link in the place of a restart or a branch leads nowhere, also where it goes in a circle."""
    run = RunDirectory(tmp_path)
    (tmp_path / "restart-1").mkdir()
    (tmp_path / "restart-2").symlink_to(".")
    assert run.restarts() == 1
    assert list(real_folders(tmp_path, "restart-*")) == [tmp_path / "restart-1"]


@pytest.mark.parametrize("kind", ["junk", "pipe", "link", "folder", "nothing"])
def test_the_owner_puts_its_lock_back(kind: str, tmp_path: Path) -> None:
    """The record says whose the run is; without it nobody could end it. It is locked as before."""
    run = RunDirectory(tmp_path / "run")
    run.path.mkdir()
    lock = RunLock.acquire(run)
    written = lock.record(Owner("f1", 1), "r1")
    lock.restore()
    assert [path.name for path in run.path.iterdir()] == [run.lock.name]  # nothing to do
    if kind != "junk":
        run.lock.unlink()
    match kind:
        case "junk":
            run.lock.write_text("junk")
        case "pipe":
            os.mkfifo(run.lock)
        case "link":
            run.lock.symlink_to("nowhere")
        case "folder":
            run.lock.mkdir()
        case _:
            pass
    lock.restore()
    assert find_record(run) == written
    assert owner_alive(run)
    lock.release()
    assert not owner_alive(run)
