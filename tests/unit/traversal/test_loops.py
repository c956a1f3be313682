"""Kilroy's loop primitive: iterations, how they end, and that a resume goes on counting."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence

import pytest
from scripted_walk import Stages, edge, failure, graph_of, node, success

from kilroy_engine.graph.model import Graph
from kilroy_engine.traversal.fold import apply_outcome, enter, initial_state
from kilroy_engine.traversal.outcome import Outcome
from kilroy_engine.traversal.resume import resumed_state
from kilroy_engine.traversal.state import Visit
from kilroy_engine.traversal.walk import next_step

SEEN, UNSEEN = (success().with_updates(loop_file_seen=seen) for seen in (True, False))
FAILED = failure("exit status 1")


def single(**loop: object) -> Graph:
    """One tool that repeats itself; a failure leads to ``mend``, so that it can be seen whether it is routed."""
    edges = [edge("start", "a"), edge("a", "exit", condition="outcome=success"), edge("a", "mend", condition="outcome=fail")]
    return graph_of([node("a", tool_command="x", **loop), node("mend")], [*edges, edge("mend", "exit")])


def pair(end: dict[str, object], *, begin_id: str = "", work: str = "w") -> Graph:
    """A body of one stage between a begin and an end, with the loop's id ``main``."""
    begin = node("top", shape="trapezium", loop_id=begin_id or "main")
    nodes = [begin, node(work, tool_command="x"), node("bottom", shape="invtrapezium", loop_id="main", **end)]
    return graph_of(nodes, [edge("start", "top"), edge("top", work), edge(work, "bottom"), edge("bottom", "exit")])


def walked(graph: Graph, **script: Sequence[Outcome]) -> Stages:
    stages = Stages(graph, script)
    stages.run()
    return stages


def loop_events(stages: Stages) -> list[tuple[object, ...]]:
    names = ("loop_iteration", "loop_terminated")
    return [tuple(event.values()) for event in stages.events if event["event"] in names]


def test_a_single_node_is_repeated_as_often_as_loop_count_says() -> None:
    """Kilroy 3.11: the count is in the context, every iteration but the last is told, then routing goes on as always."""
    stages = walked(single(loop_count=3))
    assert stages.visits == ["start", "a", "a", "a", "exit"]
    assert loop_events(stages) == [
        ("loop_iteration", "a", 1, "a", "a"),
        ("loop_iteration", "a", 2, "a", "a"),
        ("loop_terminated", "a", 3, "a"),
    ]
    assert stages.state is not None
    assert stages.state.context["loop.a.iteration"] == 0
    assert [event["to_node"] for event in stages.named("edge_selected")] == ["a", "exit"]


def test_a_failing_node_keeps_looping_and_only_its_last_failure_is_routed() -> None:
    """The node's own edges are not looked at while the loop goes on; different failures do not trip the breaker."""
    failures = [failure(f"reason {word}") for word in ("one", "two", "three")]
    stages = walked(single(loop_count=3), a=failures)
    assert stages.visits == ["start", "a", "a", "a", "mend", "exit"]


def test_the_breaker_counts_the_failures_of_a_loop() -> None:
    """The same failure three times ends the run, whatever loop_count says."""
    finish = walked(single(loop_count=9), a=[FAILED]).finish
    assert finish is not None
    assert "deterministic failure cycle detected" in finish.reason


@pytest.mark.parametrize("attributes", [{"loop_until_file": "done"}, {"loop_until_file_contains": "log:ok"}])
def test_a_file_ends_the_loop(attributes: dict[str, object]) -> None:
    """Whoever performs the stage looks; the walk decides from what comes with the outcome."""
    stages = walked(single(**attributes), a=[UNSEEN, UNSEEN, SEEN])
    assert stages.visits.count("a") == 3
    assert loop_events(stages)[-1] == ("loop_terminated", "a", 3, "a")


def test_a_loop_while_failing_ends_with_the_first_success() -> None:
    """partial_success counts, as in Kilroy; skipped does not."""
    for last, times in (("success", 2), ("partial_success", 2), ("skipped", 3)):
        stages = walked(single(loop_while_outcome="fail"), a=[failure("one"), Outcome(last), success()])
        assert stages.visits.count("a") == times
        assert stages.visits[-1] == ("exit" if last != "partial_success" else stages.visits[-1])


def test_reaching_loop_max_fails_the_run_even_if_the_loop_is_over_at_that_moment() -> None:
    """Kilroy's order: the hard limit is looked at first. The message says how to raise it."""
    stages = walked(single(loop_max=2, loop_until_file="done"), a=[UNSEEN, SEEN])
    assert stages.finish is not None
    assert stages.finish.reason == (
        "loop_max exceeded: 2 iterations without meeting termination condition (at node a); "
        "to allow more, raise loop_max on the node"
    )
    assert stages.visits == ["start", "a", "a"]
    assert stages.finish.node_id == "a"


def test_loop_max_alone_repeats_nothing() -> None:
    """As in Kilroy; a warning says so."""
    stages = walked(single(loop_max=5))
    assert stages.visits == ["start", "a", "exit"]
    assert loop_events(stages) == []


def test_a_pair_repeats_what_is_between_begin_and_end() -> None:
    """The end carries the attributes; begin and end have the same loop_id."""
    stages = walked(pair({"loop_count": 2}))
    assert stages.visits == ["start", "top", "w", "bottom", "top", "w", "bottom", "exit"]
    assert loop_events(stages) == [("loop_iteration", "main", 1, "top", "bottom"), ("loop_terminated", "main", 2, "bottom")]


def test_the_end_of_a_pair_looks_at_the_outcome_of_the_stage_before_it() -> None:
    """An end always succeeds itself: in Kilroy, loop_while_outcome would end every loop after the first iteration."""
    stages = walked(pair({"loop_while_outcome": "fail"}), w=[failure("one"), failure("two"), success()])
    assert stages.visits.count("w") == 3
    assert stages.visits[-1] == "exit"


def test_an_end_without_its_begin_repeats_nothing() -> None:
    """Such a pipeline is refused; a walk that meets it all the same does not go astray."""
    assert walked(pair({"loop_count": 3}, begin_id="other")).visits == ["start", "top", "w", "bottom", "exit"]


def test_a_loop_inside_another_counts_anew_each_time() -> None:
    """The counter is 0 once a loop is over."""
    nodes = [
        node("top", shape="trapezium", loop_id="outer"),
        node("a", tool_command="x", loop_count=2),
        node("bottom", shape="invtrapezium", loop_id="outer", loop_count=2),
    ]
    graph = graph_of(nodes, [edge("start", "top"), edge("top", "a"), edge("a", "bottom"), edge("bottom", "exit")])
    assert walked(graph).visits == ["start", "top", "a", "a", "bottom", "top", "a", "a", "bottom", "exit"]


def test_the_default_limit_of_visits_does_not_end_a_loop_that_a_number_ends() -> None:
    """120 iterations were asked for; nobody has asked for fewer visits. Without such a number, the limit holds."""
    assert walked(single(loop_count=120)).visits.count("a") == 120
    assert walked(pair({"loop_count": 120})).visits.count("w") == 120
    endless = walked(single(loop_until_file="never")).finish
    assert endless is not None
    assert 'node "a" visited 50 times' in endless.reason


def test_a_loop_with_a_number_does_not_hide_an_endless_circle_around_it() -> None:
    """Each time round the loop counts anew, but the nodes' visits outside of its iterations add up."""
    circle = [edge("start", "a"), edge("a", "b"), edge("b", "a"), edge("b", "exit", condition="outcome=fail")]
    finish = walked(graph_of([node("a", tool_command="x", loop_count=3), node("b", tool_command="x")], circle)).finish
    assert finish is not None
    assert "visited 50 times in this iteration (limit 50)" in finish.reason


def test_a_circle_inside_an_iteration_is_stopped() -> None:
    """However many iterations went well before."""
    nodes = [
        node("top", shape="trapezium", loop_id="m"),
        node("w", tool_command="x"),
        node("bottom", shape="invtrapezium", loop_id="m", loop_count=99),
    ]
    links = [edge("start", "top"), edge("top", "w"), edge("w", "w", condition="context.stuck=yes"), edge("w", "bottom")]
    stages = walked(graph_of(nodes, [*links, edge("bottom", "exit")]), w=[*[success(stuck="no")] * 60, success(stuck="yes")])
    assert stages.finish is not None
    assert 'node "w" visited 50 times in this iteration (limit 50)' in stages.finish.reason
    assert stages.visits.count("bottom") == 60


def test_a_limit_of_visits_that_is_set_counts_all_of_them() -> None:
    """As in Kilroy."""
    finish = walked(single(loop_count=9, max_node_visits=4)).finish
    assert finish is not None
    assert 'node "a" visited 4 times in this iteration (limit 4)' in finish.reason


def test_a_resume_goes_on_counting() -> None:
    """Kilroy begins again with the first iteration. State and decision survive the way to disk and back at every point."""
    graph = single(loop_count=3)
    stages = Stages(graph)
    state = initial_state(graph, run_id="r", inputs={})
    while isinstance(step := next_step(graph, state), Visit):
        state = enter(state, step)
        state = apply_outcome(graph, state, step, success())
        context = json.loads(json.dumps(state.context))
        assert next_step(graph, dataclasses.replace(state, context=context)) == next_step(graph, state)
        if state.visits == {"start": 1, "a": 2}:
            resumed, from_node = resumed_state(graph, state, lambda node_id: {"start": 1, "a": 2}.get(node_id, 0))
            stages.run(resumed)
            assert (from_node, stages.visits) == ("a", ["a", "exit"])
    assert state.visits["a"] == 3


def test_a_resume_after_loop_max_has_all_iterations_again() -> None:
    """Else it would end at once, for the same reason."""
    graph = single(loop_max=3, loop_until_file="done")
    failed = walked(graph, a=[UNSEEN]).state
    assert failed is not None
    state, from_node = resumed_state(graph, failed, lambda node_id: failed.visits.get(node_id, 0))
    stages = Stages(graph, {"a": [UNSEEN, SEEN]})
    finish = stages.run(state)
    assert (from_node, stages.visits, str(finish.status)) == ("a", ["a", "a", "exit"], "success")
