"""Edge selection."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
import yaml
from scripted_walk import edge, failure, graph_of, node, outcome_of, success

from kilroy_engine.events import EdgeConditionEvaluated, EdgeSelected, Event, NoMatchingFailEdgeFallback
from kilroy_engine.graph.model import Edge, Graph
from kilroy_engine.traversal.outcome import Outcome, read_status
from kilroy_engine.traversal.routing import JUMP, normalize_label, select_edge

CASES = yaml.safe_load((Path(__file__).parents[2] / "data/conformance/edge_selection.yaml").read_text())["cases"]


def fork(*edges: Edge, **values: object) -> Graph:
    """A node ``a`` with the given edges; their targets exist."""
    targets = [node(target) for target in {e.target for e in edges} - {"exit"}]
    return graph_of([node("a", **values), *targets], edges)


def chosen(graph: Graph, outcome: Outcome, **context: Any) -> tuple[str | None, tuple[Event, ...]]:
    selected, decisions = select_edge(graph, graph.nodes["a"], outcome, context)
    return (selected.target if selected else None), decisions


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_edge_selection_conformance(case: dict[str, Any]) -> None:
    """Every shared case on edge selection."""
    edges = [edge("a", e["to"], **{k: v for k, v in e.items() if k != "to"}) for e in case["edges"]]
    given = case["outcome"]
    outcome = Outcome(
        read_status(given["status"]),
        preferred_label=given.get("preferred_label", ""),
        suggested_next_ids=tuple(given.get("suggested_next_ids", ())),
    )
    assert chosen(fork(*edges), outcome)[0] == case["want"]


@pytest.mark.parametrize(
    ("edges", "outcome", "method"),
    [
        ([edge("a", "b", condition="outcome=success")], success(), "condition_match"),
        ([edge("a", "b", label="[G] Go"), edge("a", "c")], Outcome("success", preferred_label="go"), "preferred_label"),
        ([edge("a", "b"), edge("a", "c")], Outcome("success", suggested_next_ids=("b",)), "suggested_next_ids"),
        ([edge("a", "b")], success(), "only_edge"),
        ([edge("a", "b", weight=2), edge("a", "c", weight=1)], success(), "weight"),
        ([edge("a", "c"), edge("a", "b"), edge("a", "d", weight=-1)], success(), "lexical_tiebreak"),
    ],
)
def test_the_decision_says_how_the_edge_was_chosen(edges: list[Edge], outcome: Outcome, method: str) -> None:
    """``selection_method`` in Kilroy's words, with the number of candidates."""
    target, decisions = chosen(fork(*edges), outcome)
    selected = decisions[-1]
    assert isinstance(selected, EdgeSelected)
    assert (target, selected.selection_method, selected.hop_source) == ("b", method, "edge_selection")
    assert selected.candidates_evaluated == len(edges)
    assert selected.conditions_matched == (1 if method == "condition_match" else 0)


def test_every_condition_is_reported_in_the_order_of_the_file() -> None:
    """Conditions are all evaluated, the ones after a match too."""
    graph = fork(
        edge("a", "b", condition="outcome=fail"),
        edge("a", "c", condition="outcome=success"),
        edge("a", "d"),
        edge("a", "e", condition="context.mode=fast"),
    )
    target, decisions = chosen(graph, success(), mode="fast")
    assert target == "c"
    assert decisions[:-1] == (
        EdgeConditionEvaluated(node_id="a", edge_to="b", condition="outcome=fail", matched=False),
        EdgeConditionEvaluated(node_id="a", edge_to="c", condition="outcome=success", matched=True),
        EdgeConditionEvaluated(node_id="a", edge_to="e", condition="context.mode=fast", matched=True),
    )


def test_a_failed_stage_takes_its_retry_target_before_any_edge_without_a_condition() -> None:
    """Spec 3.7: fail edge, retry target, fallback; a plain edge comes after them."""
    graph = fork(edge("a", "b"), edge("a", "c"), edge("a", "d", condition="outcome=fail"), retry_target="c")
    assert chosen(graph, failure("x"))[0] == "d"
    graph = fork(edge("a", "b"), edge("a", "c"), retry_target="c")
    selected, decisions = select_edge(graph, graph.nodes["a"], failure("x"), {})
    assert selected is not None
    assert (selected.target, selected.index) == ("c", JUMP)
    assert decisions == (NoMatchingFailEdgeFallback(node_id="a", retry_target="c", failure_reason="x"),)
    assert chosen(graph, success())[0] == "b"


@pytest.mark.parametrize("unusable", ["exit", "nowhere", " "])
def test_a_retry_target_that_is_missing_or_an_exit_is_skipped(unusable: str) -> None:
    """The fallback takes over; without one the plain edge does."""
    edges = (edge("a", "b"), edge("a", "c"))
    assert chosen(fork(*edges, retry_target=unusable, fallback_retry_target="c"), failure("x"))[0] == "c"
    assert chosen(fork(*edges, retry_target=unusable), failure("x"))[0] == "b"


def test_targets_of_the_graph_do_not_serve_a_failed_stage() -> None:
    """Graph-level retry targets are for goal gates only."""
    graph = graph_of([node("a"), node("c")], [edge("start", "a")], retry_target="c")
    assert chosen(graph, failure("x")) == (None, ())


def test_no_failed_stage_reaches_an_exit_over_an_edge_without_a_condition() -> None:
    """Not by weight, not by label, not by suggestion; over a condition that holds it does."""
    outcome = Outcome("fail", preferred_label="done", suggested_next_ids=("exit",))
    assert chosen(fork(edge("a", "exit", label="done", weight=9)), outcome)[0] is None
    assert chosen(fork(edge("a", "exit", label="done", weight=9), edge("a", "b")), outcome)[0] == "b"
    assert chosen(fork(edge("a", "exit", condition="outcome=fail")), outcome)[0] == "exit"
    assert chosen(fork(edge("a", "exit")), outcome_of("retry"))[0] is None
    assert chosen(fork(edge("a", "exit")), outcome_of("skipped"))[0] == "exit"


def test_a_failed_fan_in_follows_conditions_and_retry_targets_only() -> None:
    """Its plain edges are for success; the hop sources are Kilroy's."""
    graph = fork(edge("a", "b"), type="parallel.fan_in")
    assert chosen(graph, failure("all parallel branches failed"))[0] is None
    assert chosen(graph, success())[0] == "b"
    graph = fork(edge("a", "b", condition="outcome=fail"), type="parallel.fan_in")
    selected = chosen(graph, failure("x"))[1][-1]
    assert isinstance(selected, EdgeSelected)
    assert (selected.hop_source, selected.selection_method) == ("conditional", "condition_match")
    graph = fork(edge("a", "b"), type="parallel.fan_in", retry_target="b")
    assert chosen(graph, failure("x"))[1] == (
        EdgeSelected(
            from_node="a",
            to_node="b",
            label="",
            condition="",
            hop_source="retry_target",
            selection_method="",
            candidates_evaluated=0,
            conditions_matched=0,
        ),
    )


def test_a_custom_status_routes_like_a_success() -> None:
    """Conditions first, then labels, suggestions and plain edges, exits included."""
    approved = Outcome("approved", suggested_next_ids=("c",))
    assert chosen(fork(edge("a", "b", condition="outcome=approved"), edge("a", "c")), approved)[0] == "b"
    assert chosen(fork(edge("a", "b"), edge("a", "c")), approved)[0] == "c"
    assert chosen(fork(edge("a", "exit"), retry_target="a"), Outcome("approved"))[0] == "exit"


def test_the_choice_does_not_depend_on_the_order_of_the_edges() -> None:
    """Weight and target decide; only twins are told apart by their place in the file."""
    edges = [edge("a", "d"), edge("a", "b", weight=1), edge("a", "C", weight=1), edge("a", "e", weight=1)]
    assert {chosen(fork(*order), success())[0] for order in itertools.permutations(edges)} == {"C"}
    twins = fork(edge("a", "b", label="one"), edge("a", "b", label="two"))
    selected, _ = select_edge(twins, twins.nodes["a"], success(), {})
    assert selected is not None
    assert selected.index == 0


@pytest.mark.parametrize(
    ("label", "normal"),
    [
        ("[Y] Yes, deploy", "yes, deploy"),
        ("y) Yes", "yes"),
        (" Y - Yes ", "yes"),
        ("YES", "yes"),
        ("[OK] Yes", "[ok] yes"),
        ("e-mail", "e-mail"),
        ("[Y]", "[y]"),
        ("", ""),
    ],
)
def test_labels_are_compared_without_case_and_accelerator(label: str, normal: str) -> None:
    """One accelerator of one character is stripped; a label that is nothing else stays."""
    assert normalize_label(label) == normal
