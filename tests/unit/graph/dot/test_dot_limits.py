"""Hostile and large texts: an answer in a few seconds, and no recursion."""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Callable

import pytest

from kilroy_engine.errors import DotSyntaxError
from kilroy_engine.graph.checks.validation import validate
from kilroy_engine.graph.dot.parse import parse_dot
from kilroy_engine.graph.transforms import prepare

SIZE = 1_000_000
BUDGET_S = 5.0  # a hang, not slowness, is what these tests look for: what is not linear takes hours for such a text

HOSTILE: dict[str, Callable[[], str]] = {
    "random bytes": lambda: random.Random(1).randbytes(SIZE).decode("latin-1"),
    "random bytes inside": lambda: "digraph G { " + random.Random(2).randbytes(SIZE).decode("latin-1"),
    "one name": lambda: "digraph G { " + "x" * SIZE,
    "names": lambda: "digraph G { " + "a " * (SIZE // 2),
    "open brackets": lambda: "digraph G { a " + "[" * SIZE,
    "open braces": lambda: "digraph G " + "{" * SIZE,
    "arrows": lambda: "digraph G { " + "a->" * (SIZE // 3),
    "quotes": lambda: "digraph G { " + '"' * SIZE,
    "quotes in a list": lambda: "digraph G { a [x=" + '"' * SIZE,
    "backslashes": lambda: 'digraph G { a [x="' + "\\" * SIZE,
    "comment openings": lambda: "digraph G { " + "/*" * (SIZE // 2),
    "comments": lambda: "digraph G { " + "/**/" * (SIZE // 4) + "!",
    "slashes": lambda: "digraph G { a " + "/" * SIZE,
    "semicolons": lambda: "digraph G { " + ";" * SIZE,
    "subgraphs": lambda: "digraph G { " + "subgraph {" * (SIZE // 10),
    "attributes that never end": lambda: "digraph G { a [" + "b=1 " * (SIZE // 4),
    "attributes without number": lambda: "digraph G { a [" + "b=1 " * (SIZE // 4) + "] }",
    "equals": lambda: "digraph G { a [" + "a=" * (SIZE // 2),
    "dots": lambda: "digraph G { a [b=" + "." * SIZE,
    "dotted key": lambda: "digraph G { " + "a." * (SIZE // 2),
    "blank lines": lambda: "\n" * SIZE,
}


@pytest.mark.parametrize("make", HOSTILE.values(), ids=HOSTILE.keys())
def test_a_megabyte_of_garbage_is_refused_soon(make: Callable[[], str]):
    """Every pattern is linear, and what is too large is refused while it is read."""
    text = make()
    before = time.process_time()
    with pytest.raises(DotSyntaxError) as refused:
        parse_dot(text)
    assert time.process_time() - before < BUDGET_S
    assert len(str(refused.value)) < 1000


def test_nesting_needs_no_recursion():
    """2,000 subgraphs inside each other are read, defaults and classes and all."""
    depth = 2000
    assert depth > sys.getrecursionlimit() // 2
    text = "digraph G { " + 'subgraph { label="L" ' * depth + "a" + " }" * depth + " }"
    assert parse_dot(text).nodes["a"].classes == ("l",)
    with pytest.raises(DotSyntaxError, match="the text ends before"):
        parse_dot("digraph G { " + "subgraph {" * depth)


def test_a_long_chain_needs_no_recursion():
    """Rules walk the graph with stacks of their own: a chain and a loop of 5,000 nodes."""
    chain = " -> ".join(f"n{at}" for at in range(5000))
    graph = parse_dot(f"digraph G {{ start -> {chain} -> exit n4999 -> n0 }}")
    rules = {d.rule for d in validate(prepare(graph))}
    assert "cycle_no_conditional_exit" not in rules
    assert "reachability" not in rules


def cost_s(count: int) -> float:
    """CPU seconds for reading and checking a chain of so many nodes, the least of three tries."""
    nodes = "".join(f'  n{at} [label="Node {at}", prompt="do the thing {at} with care", timeout=900s]\n' for at in range(count))
    edges = "".join(f'  n{at} -> n{at + 1} [condition="outcome=success", weight=2]\n' for at in range(count - 1))
    ends = f"start [shape=Mdiamond] exit [shape=Msquare] start -> n0 n{count - 1} -> exit\n"
    text = f"digraph G {{\n  node [shape=box]\n{ends}{nodes}{edges}}}"

    def once() -> float:
        before = time.process_time()
        graph = prepare(parse_dot(text))
        diagnostics = validate(graph)
        spent = time.process_time() - before
        assert len(graph.nodes) == count + 2
        assert diagnostics
        return spent

    return min(once() for _ in range(3))


def test_a_pipeline_costs_as_much_as_it_has_nodes():
    """Reading and checking is linear: eight times the nodes cost eight times as much, and not sixty-four times."""
    parse_dot("digraph G { a }")  # the grammar is loaded once per process
    assert cost_s(4000) < 16 * cost_s(500)
