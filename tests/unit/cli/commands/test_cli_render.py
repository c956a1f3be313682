"""``kilroy render``: pictures of pipelines and of runs."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from run_writer import PIPELINE, Kilroy, Writer, append_stages

from kilroy_engine.graph.dot.parse import parse_dot

needs_graphviz = pytest.mark.skipif(shutil.which("dot") is None, reason="Graphviz is not installed")


def test_a_pipeline_becomes_mermaid_or_dot_without_any_other_program(kilroy: Kilroy, tmp_path: Path) -> None:
    """Text formats need no Graphviz; the DOT that is written is the same pipeline."""
    (tmp_path / "demo.dot").write_text(PIPELINE)
    assert kilroy("render", "demo.dot", "-o", "demo.mmd", PATH="/nonexistent").returncode == 0
    assert (tmp_path / "demo.mmd").read_text().startswith("flowchart")
    assert kilroy("render", "demo.dot", "--output", "again.dot", PATH="/nonexistent").returncode == 0
    again = parse_dot((tmp_path / "again.dot").read_text())
    assert list(again.nodes) == list(parse_dot(PIPELINE).nodes)


def test_a_dash_reads_and_writes_the_standard_streams(kilroy: Kilroy) -> None:
    """For pipes: DOT in, DOT out, nothing else on standard output."""
    done = kilroy("render", "-", "-o", "-", stdin=PIPELINE.encode())
    assert done.returncode == 0
    assert parse_dot(done.stdout).name == "demo"


@needs_graphviz
@pytest.mark.parametrize(("suffix", "magic"), [("svg", b"<?xml"), ("png", b"\x89PNG"), ("pdf", b"%PDF")])
def test_graphviz_draws_pictures(kilroy: Kilroy, tmp_path: Path, suffix: str, magic: bytes) -> None:
    """The suffix decides the format."""
    (tmp_path / "demo.dot").write_text(PIPELINE)
    done = kilroy("render", "demo.dot", "-o", f"demo.{suffix}")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / f"demo.{suffix}").read_bytes().startswith(magic)


@needs_graphviz
def test_the_picture_of_a_run_tells_the_state_of_each_node_in_words(kilroy: Kilroy, writer: Writer, tmp_path: Path) -> None:
    """Not by color alone; a node that was not reached has no state."""
    one = writer("01A")
    append_stages(one.open(), "start", "build")
    assert kilroy("render", "01A", "-o", "run.svg").returncode == 0
    svg = (tmp_path / "run.svg").read_text()
    assert svg.count("success") == 2


def test_without_graphviz_a_picture_is_refused_with_what_to_install(kilroy: Kilroy, tmp_path: Path) -> None:
    """The message names the package, and the formats that need nothing."""
    (tmp_path / "demo.dot").write_text(PIPELINE)
    done = kilroy("render", "demo.dot", "-o", "demo.svg", PATH=os.devnull)
    assert done.returncode == 1
    assert "install the package graphviz" in done.stderr
    assert not (tmp_path / "demo.svg").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["demo.dot", "-o", "demo.jpeg"], "the suffix must be one of"),
        (["missing.dot", "-o", "x.mmd"], "does not exist"),
        (["missing", "-o", "x.mmd"], "neither a pipeline file nor a run"),
        (["demo.dot", "-o", "no/such/folder/x.mmd"], "No such file or directory: no/such/folder/x.mmd"),
    ],
)
def test_what_cannot_be_drawn_is_told(kilroy: Kilroy, tmp_path: Path, arguments: list[str], message: str) -> None:
    """Unknown format, missing subject, missing folder: one message, exit code 1."""
    (tmp_path / "demo.dot").write_text(PIPELINE)
    done = kilroy("render", *arguments)
    assert done.returncode == 1
    assert message in done.stderr
