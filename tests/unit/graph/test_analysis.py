"""Reachability, loops and joins."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kilroy_engine.graph.analysis import Join, cycles, distances, nearest_join, successors
from kilroy_engine.graph.dot.parse import parse_dot
from kilroy_engine.graph.model import Graph


def _graph(body: str) -> Graph:
    return parse_dot(f"digraph G {{ {body} }}")


def reachable(graph: Graph, start: str, *, jumps: bool = False) -> frozenset[str]:
    return frozenset(distances(successors(graph, jumps=jumps), [start]))


def test_reachable_nodes_may_count_jumps():
    """Retry targets are ways of the walk, though no edge shows them."""
    graph = _graph("a [retry_target=mend, fallback_retry_target=nowhere] a -> b mend -> b lost -> b")
    assert reachable(graph, "a") == {"a", "b"}
    assert reachable(graph, "a", jumps=True) == {"a", "b", "mend"}


@pytest.mark.parametrize(
    ("body", "found"),
    [
        ("a -> b -> c", []),
        ("a -> b -> c -> a", [{"a", "b", "c"}]),
        ("a -> a b", [{"a"}]),
        ("a -> b -> a b -> c -> d -> c d -> e", [{"a", "b"}, {"c", "d"}]),
        ("x -> a -> b -> c -> b c -> a", [{"a", "b", "c"}]),
    ],
)
def test_cycles_are_the_strongly_connected_parts(body: str, found: list[set[str]]):
    """Loops within loops are one; a node that leads to itself is one."""
    assert [set(cycle) for cycle in cycles(_graph(body))] == found


@given(st.lists(st.tuples(st.integers(0, 7), st.integers(0, 7)), max_size=24))
def test_nodes_share_a_cycle_exactly_when_each_reaches_the_other(pairs: list[tuple[int, int]]):
    """Tarjan's answer against the definition, on random graphs."""
    graph = _graph(" ".join(f"n{a} -> n{b}" for a, b in pairs))
    together = {frozenset({a, b}) for cycle in cycles(graph) for a in cycle for b in cycle}
    for a in graph.nodes:
        after = {edge.target for edge in graph.outgoing(a)}
        for b in graph.nodes:
            leads_back = b in reachable(graph, a) and a in reachable(graph, b)
            mutual = leads_back if a != b else any(a in reachable(graph, target) for target in after)
            assert (frozenset({a, b}) in together) is mutual


@pytest.mark.parametrize(
    ("body", "join"),
    [
        ("f -> a f -> b a -> j b -> j j [shape=tripleoctagon]", Join("j", merges=True)),
        ("f -> a f -> b a -> j b -> j j -> late late [shape=tripleoctagon]", Join("late", merges=True)),
        ("f -> a f -> b a -> j b -> j", Join("j", merges=False)),
        ("f -> a f -> b a -> x b -> y", None),
        ("f", None),
        ("f -> a f -> j a -> j j [shape=tripleoctagon]", Join("j", merges=True)),
        ("f -> a f -> b a -> b b -> end", Join("end", merges=False)),
        ("f -> a f -> b a -> m1 -> far b -> near a -> near b -> far far [shape=tripleoctagon] near [shape=tripleoctagon]",
         Join("near", merges=True)),
        ("f -> a f -> b a -> y b -> y a -> x b -> x y [shape=tripleoctagon] x [shape=tripleoctagon]", Join("x", merges=True)),
        ("f -> a f -> b a -> f b -> f", None),
        ("f -> a a -> b", Join("b", merges=False)),
    ],
)  # fmt: skip
def test_branches_end_at_the_nearest_common_join(body: str, join: Join | None):
    """A fan-in before any other node; the shortest longest way, then the shortest sum, then the lower id (Kilroy)."""
    assert nearest_join(_graph(body), "f") == join
