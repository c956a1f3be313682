"""Ends on disks that refuse: full, or read-only. The run is ended as soon as the disk takes it."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from starts import open_start

from kilroy_engine.errors import RunDirectoryError
from kilroy_engine.events import RunStarted, StageHeartbeat
from kilroy_engine.rundir.ending.finalize import end_run
from kilroy_engine.rundir.ending.starts import OpenStart
from kilroy_engine.rundir.files.layout import RunDirectory
from kilroy_engine.rundir.files.records import Conclusion, FinalOutcome
from kilroy_engine.rundir.stream.progress import read_events
from kilroy_engine.traversal.outcome import FinalStatus

SIZE_BYTES = 512 * 1024


@contextmanager
def mounted(place: Path) -> Iterator[Path]:
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={SIZE_BYTES}", "tmpfs", str(place)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"mounting a small file system is not permitted here: {done.stderr.strip()}")
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of half a megabyte."""
    with mounted(tmp_path / "disk") as place:
        yield place


def begin(disk: Path) -> OpenStart:
    start = open_start(RunDirectory(disk / "r1"), RunStarted(flow_run_id="f1", graph_name="g", goal=""), run_id="r1")
    Conclusion(status=FinalStatus.SUCCESS, start=1).write(start.run)
    return start


def fill(disk: Path, *, leave_bytes: int = 0) -> Path:
    """Fills the disk to the last byte, but for ``leave_bytes``."""
    ballast = disk / "ballast"
    with ballast.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(b"x" * 4096)
        except OSError:
            pass  # full
        file.truncate(file.tell() - leave_bytes)
    return ballast


def end(start: OpenStart) -> FinalOutcome:
    return end_run(start.run, start.owner)


def tell_much(start: OpenStart) -> None:
    for _ in range(200):
        start.progress.append(StageHeartbeat(node_id="a", elapsed_s=1, since_last_output_s=1))


@pytest.mark.parametrize("leave_bytes", [0, 4096, 8192, 16384])
def test_an_end_on_a_full_disk_fails_whole_and_is_completed_when_there_is_room(disk: Path, leave_bytes: int) -> None:
    """No terminal line without final.json, no half of either; afterwards exactly one line, the last whole one."""
    start = begin(disk)
    ballast = fill(disk, leave_bytes=leave_bytes)
    try:
        end(start)
    except RunDirectoryError as refusal:
        assert "No space left" in str(refusal)  # noqa: PT017 - with some room left the end may get through
        names = [event["event"] for event in read_events(start.run.progress)]
        assert "run_completed" not in names or start.run.final.exists()
    ballast.unlink()
    final = end(start)
    names = [event["event"] for event in read_events(start.run.progress)]
    assert final.status == FinalStatus.SUCCESS
    assert (names.count("run_completed"), names[-1]) == (1, "run_completed")
    assert FinalOutcome.read(start.run) == final
    assert not list(start.run.path.glob(".tmp-*final.json"))


def test_a_line_that_the_full_disk_tore_is_closed_by_the_next(disk: Path) -> None:
    """A write that got through in part leaves a torn line; what comes later stands on lines of its own."""
    start = begin(disk)
    ballast = fill(disk)
    with pytest.raises(RunDirectoryError, match="No space left"):
        tell_much(start)
    ballast.unlink()
    end(start)
    lines = start.run.progress.read_bytes().split(b"\n")
    assert lines[-1] == b""
    assert [event["event"] for event in read_events(start.run.progress)][-1] == "run_completed"


def test_an_end_on_a_read_only_disk_changes_nothing_and_comes_later(disk: Path) -> None:
    """The refusal names the place; once the disk can be written, the end is."""
    start = begin(disk)
    before = start.run.progress.read_bytes()
    start.close()
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    with pytest.raises(RunDirectoryError, match="Read-only file system"):
        end(start)
    subprocess.run(["mount", "-o", "remount,rw", str(disk)], check=True)
    assert start.run.progress.read_bytes() == before
    assert end(start).status == FinalStatus.SUCCESS
