"""Graphviz as a program that may be missing, fail, or take for ever."""

from __future__ import annotations

from pathlib import Path

import pytest

from kilroy_engine.errors import KilroyError
from kilroy_engine.processes.graphviz import draw


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that comes first on the PATH, for a program ``dot``."""
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    return tmp_path / "dot"


def write(program: Path, script: str) -> None:
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)


def test_it_is_given_the_graph_and_the_options(program: Path) -> None:
    """The picture is what it writes; it reads the graph from its standard input."""
    write(program, 'echo "$@"; cat')
    assert draw("digraph { é }", "svg", timeout_s=30.0, options=("-Gbgcolor=white",)) == (
        "-Tsvg -Gbgcolor=white\ndigraph { é }".encode()
    )


def test_its_own_words_are_told_when_it_fails(program: Path) -> None:
    """They name the line that it does not understand."""
    write(program, "cat > /dev/null; echo 'syntax error in line 1' >&2; exit 1")
    with pytest.raises(KilroyError, match="Graphviz failed: syntax error in line 1"):
        draw("digraph {", "svg", timeout_s=30.0)


def test_a_graph_that_takes_too_long_is_given_up(program: Path) -> None:
    """A layout of thousands of edges must not hold the end of a run."""
    write(program, "exec sleep 60")
    with pytest.raises(KilroyError, match=r"did not draw the picture within 0\.2 s"):
        draw("digraph {}", "svg", timeout_s=0.2)


def test_without_it_the_formats_that_need_nothing_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who has no Graphviz can have the picture as Mermaid or as DOT."""
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(KilroyError, match=r"install the package graphviz, or write a \.mmd or \.dot file"):
        draw("digraph {}", "png", timeout_s=1.0)
