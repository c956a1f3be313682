"""Pipelines from the wild, read from the folder that the environment variable KILROY_CORPUS names."""

from __future__ import annotations

import json
import os
from collections import Counter
from functools import cache
from pathlib import Path
from typing import TypedDict

import pytest

from kilroy_engine.graph.checks.validation import errors_of, validate
from kilroy_engine.graph.diagnostics import Diagnostic
from kilroy_engine.graph.dot.parse import parse_dot
from kilroy_engine.graph.model import Graph
from kilroy_engine.graph.render import to_dot
from kilroy_engine.graph.transforms import prepare

CORPUS = os.environ.get("KILROY_CORPUS", "")
MAY_ERR = {"condition_syntax", "tool_command_required"}
"""Rules whose errors the wild pipelines earn: an operator of another engine, a tool without a command."""

pytestmark = pytest.mark.skipif(not CORPUS, reason="KILROY_CORPUS is not set: no pipelines from the wild to read")


class Entry(TypedDict):
    """A line of the corpus's index."""

    file: str
    nodes: int
    edges: int
    negative: bool


@cache
def _entries() -> list[Entry]:
    return json.loads((Path(CORPUS) / "index.json").read_text(encoding="utf-8"))


@cache
def _graph(file: str) -> Graph:
    return parse_dot((Path(CORPUS) / file).read_text(encoding="utf-8"), file)


def test_every_pipeline_is_read_with_the_counts_of_the_index():
    """Nodes and edges as Graphviz and a tolerant scan count them."""
    wrong = []
    for entry in _entries():
        graph = _graph(entry["file"])
        if (len(graph.nodes), len(graph.edges)) != (entry["nodes"], entry["edges"]):
            wrong.append((entry, len(graph.nodes), len(graph.edges)))
    assert len(_entries()) > 100
    assert wrong == []


def test_pipelines_are_valid_but_for_what_they_earn():
    """No error that the rules do not owe."""
    valid, refused = 0, {}
    warnings: Counter[str] = Counter()
    for entry in _entries():
        if entry["negative"]:
            continue
        diagnostics: tuple[Diagnostic, ...] = validate(prepare(_graph(entry["file"])))
        warnings.update(d.rule for d in diagnostics)
        if errors := errors_of(diagnostics):
            refused[entry["file"]] = [(d.line, d.rule, d.message) for d in errors]
        else:
            valid += 1
    total = valid + len(refused)
    print(f"{total} pipelines: {valid} valid, {len(refused)} refused")
    for file, reasons in refused.items():
        print(f"  {file}: {reasons}")
    print("  " + ", ".join(f"{rule} {count}" for rule, count in warnings.most_common()))
    assert {rule for reasons in refused.values() for _, rule, _ in reasons} <= MAY_ERR
    assert valid / total > 0.98
    assert valid / total > 0.7


def test_printing_and_reading_again_changes_nothing():
    """Canonical DOT of every pipeline describes the same graph."""
    for entry in _entries():
        graph = _graph(entry["file"])
        text = to_dot(graph)
        again = parse_dot(text)
        assert to_dot(again) == text
        assert list(again.nodes) == list(graph.nodes), entry["file"]
        assert [(e.source, e.target) for e in again.edges] == [(e.source, e.target) for e in graph.edges]
        assert [n.classes for n in again.nodes.values()] == [n.classes for n in graph.nodes.values()]
