"""Declared outputs."""

from __future__ import annotations

import json
import os
from pathlib import Path

from kilroy_engine.rundir.ending.outputs import collect_outputs, declared_outputs
from kilroy_engine.rundir.files.layout import RunDirectory


def test_found_outputs_are_copied_and_missing_ones_listed(tmp_path: Path) -> None:
    """Kilroy's keys; folders are copied whole; a name that leads out of the work folder is not found."""
    run, work = RunDirectory(tmp_path / "run"), tmp_path / "work"
    (work / "site").mkdir(parents=True)
    run.path.mkdir()
    (work / "dist.txt").write_text("12345")
    (work / "site" / "index.html").write_text("<p>")
    (tmp_path / "secret").write_text("s")
    (work / "link").symlink_to(tmp_path / "secret")
    names = declared_outputs(" dist.txt, site,,missing.txt, ../secret, link ,/etc/hostname")
    for _ in range(2):  # a second collection replaces the first
        collect_outputs(run, names, work)
    assert json.loads(run.outputs_index.read_bytes()) == [
        {"name": "dist.txt", "found": True, "path": str(run.outputs / "dist.txt"), "size_bytes": 5},
        {"name": "site", "found": True, "path": str(run.outputs / "site"), "size_bytes": 3},
        *({"name": name, "found": False} for name in ("missing.txt", "../secret", "link", "/etc/hostname")),
    ]
    assert (run.outputs / "site" / "index.html").read_text() == "<p>"


def test_a_pipe_is_no_output_and_one_in_a_folder_is_left_out(tmp_path: Path) -> None:
    """The others are collected all the same, links stay links, and a link in a circle is not found."""
    run, work = RunDirectory(tmp_path / "run"), tmp_path / "work"
    (work / "d").mkdir(parents=True)
    run.path.mkdir()
    os.mkfifo(work / "pipe")
    os.mkfifo(work / "d" / "pipe")
    (work / "d" / "f").write_text("123")
    (work / "d" / "up").symlink_to("..")
    (work / "circle").symlink_to("circle")
    collected = collect_outputs(run, ("pipe", "d", "circle"), work)
    assert [(output.found, output.size_bytes) for output in collected] == [(False, 0), (True, 3), (False, 0)]
    assert sorted(path.name for path in (run.outputs / "d").iterdir()) == ["f", "up"]
    assert (run.outputs / "d" / "up").is_symlink()


def test_nothing_is_collected_through_a_link_and_nothing_is_in_the_way(tmp_path: Path) -> None:
    """A stage has put links, files and folders where outputs go; the end of the run collects them all the same."""
    run, work, victim = RunDirectory(tmp_path / "run"), tmp_path / "work", tmp_path / "victim"
    for folder in (work / "a" / "b", work / "d", run.outputs / "f", victim / "b"):
        folder.mkdir(parents=True)
    for file in ("a/b/c", "d/x", "f", "g"):
        (work / file).write_text("1")
    (run.outputs / "a").symlink_to(victim)
    (run.outputs / "d").write_text("in the way")
    (run.outputs / "g").symlink_to(victim / "g")
    names = ("a/b/c", "d", "f", "g")
    for _ in range(2):
        assert all(output.found for output in collect_outputs(run, names, work))
    assert [(run.outputs / name).read_text() for name in ("a/b/c", "d/x", "f", "g")] == ["1"] * 4
    assert [path.name for path in victim.rglob("*")] == ["b"]


def test_a_pipeline_without_outputs_has_no_index(tmp_path: Path) -> None:
    """outputs.json exists only where outputs are declared."""
    run = RunDirectory(tmp_path)
    assert collect_outputs(run, declared_outputs(" , "), tmp_path) == ()
    assert not run.outputs_index.exists()
