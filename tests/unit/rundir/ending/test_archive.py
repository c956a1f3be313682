"""run.tgz."""

from __future__ import annotations

import os
import tarfile
from pathlib import Path

from kilroy_engine.rundir.ending.archive import write_archive
from kilroy_engine.rundir.files.layout import RunDirectory

KEPT = ["a/status.json", "final.json", "parallel/fan/pass1/01-b/progress.ndjson", "restart-1/final.json", "a/worktree.txt"]
LEFT_OUT = [
    "worktree/src/main.py",
    "parallel/fan/pass1/01-b/worktree/src/main.py",
    "run.lock.json",
    "commit.lock",
    "end.lock",
    "restart-1/commit.lock",
    "restart-1/run.tgz",
    "a/codex-home/auth.json",
    "a/codex-home-retry-2/x",
    "a/.codex/auth.json",
    "a/.codex/config.toml",
    ".tmp-0a1b2c3d-live.json",
]


def fill(root: Path) -> None:
    for name in KEPT + LEFT_OUT:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)


def files_in(path: Path) -> list[str]:
    with tarfile.open(path) as archive:
        return [member.name for member in archive.getmembers() if not member.isdir()]


def test_the_archive_holds_the_run_without_work_folders_locks_and_secrets(tmp_path: Path) -> None:
    """Members are sorted by path and relative to the run directory (Kilroy: run.tgz), branch worktrees are left out too."""
    fill(tmp_path)
    assert write_archive(RunDirectory(tmp_path), limit_s=60)
    assert files_in(tmp_path / "run.tgz") == sorted(KEPT)
    with tarfile.open(tmp_path / "run.tgz") as archive:
        stream = archive.extractfile("final.json")
        assert stream is not None
        assert stream.read() == b"final.json"


def test_the_same_run_gives_the_same_bytes(tmp_path: Path) -> None:
    """Order, owners and the header's time do not depend on when or by whom it is written."""
    fill(tmp_path)
    run = RunDirectory(tmp_path)
    write_archive(run, limit_s=60)
    first = run.archive.read_bytes()
    run.archive.unlink()
    os.utime(tmp_path)
    write_archive(run, limit_s=60)
    assert run.archive.read_bytes() == first


def test_links_stay_links_and_pipes_are_left_out(tmp_path: Path) -> None:
    """A link out of the run is not followed, a pipe would block the reader, a hard link keeps its content."""
    (tmp_path / "secret").symlink_to("/etc/hostname")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "one").write_text("same")
    (tmp_path / "two").hardlink_to(tmp_path / "one")
    assert write_archive(RunDirectory(tmp_path), limit_s=60)
    assert files_in(tmp_path / "run.tgz") == ["one", "secret", "two"]
    with tarfile.open(tmp_path / "run.tgz") as archive:
        assert archive.getmember("secret").issym()
        stream = archive.extractfile("two")
        assert stream is not None
        assert stream.read() == b"same"


def test_an_archive_out_of_time_leaves_nothing(tmp_path: Path) -> None:
    """It is bounded inside large files too, and the directory is as before."""
    with (tmp_path / "huge.log").open("wb") as stream:
        for _ in range(64):
            stream.write(os.urandom(1 << 20))
    assert not write_archive(RunDirectory(tmp_path), limit_s=0.2)
    assert [entry.name for entry in tmp_path.iterdir()] == ["huge.log"]
