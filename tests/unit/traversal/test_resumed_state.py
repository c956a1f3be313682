"""Where a run goes on: the interrupted stage again, the failed stage again, or the next one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest
from scripted_walk import Stages, edge, failure, graph_of, node, success

from kilroy_engine.errors import CheckpointMismatch
from kilroy_engine.graph.model import Graph
from kilroy_engine.traversal.fold import initial_state, with_inputs
from kilroy_engine.traversal.outcome import Outcome
from kilroy_engine.traversal.resume import resumed_state
from kilroy_engine.traversal.state import RunState

LINE = graph_of(
    [node("a", tool_command="x"), node("b", tool_command="x")], [edge("start", "a"), edge("a", "b"), edge("b", "exit")]
)
FAILED = failure("exit status 1")


class Interrupted(Exception):
    """Ends a walk in the middle of a stage."""


def saved_after(graph: Graph, script: Mapping[str, Sequence[Outcome]], *, killed_in: str = "") -> RunState:
    """The last state that was recorded of a walk; it ends by itself, or when the stage ``killed_in`` is reached."""

    class Recorded(Stages):
        saved = initial_state(graph, run_id="r", inputs={})

        def perform(self, visit, state):  # type: ignore[no-untyped-def]
            if visit.node_id == killed_in:
                raise Interrupted
            return super().perform(visit, state)

        def outcome_recorded(self, visit, outcome, state):  # type: ignore[no-untyped-def]
            self.saved = state

    stages = Recorded(graph, script)
    try:
        stages.run()
    except Interrupted:
        pass
    return stages.saved


def resumed(
    graph: Graph, saved: RunState, script: Mapping[str, Sequence[Outcome]] = {}, **begun: int
) -> tuple[Stages, str, RunState]:
    """The walk that goes on from ``saved``; ``begun`` are visits that the stage directories know more than it."""
    state, from_node = resumed_state(graph, saved, lambda node_id: begun.get(node_id, saved.visits.get(node_id, 0)))
    stages = Stages(graph, script)
    stages.run(state)
    return stages, from_node, state


def test_an_interrupted_stage_runs_again_as_a_new_visit() -> None:
    """Its directory knows one visit more than the checkpoint; finished stages are left alone, and no edge is chosen twice."""
    stages, from_node, state = resumed(LINE, saved_after(LINE, {}, killed_in="b"), b=1)
    assert (from_node, stages.visits) == ("b", ["b", "exit"])
    assert state.visits["b"] == 1
    assert stages.state is not None
    assert stages.state.visits["b"] == 2
    assert [event["to_node"] for event in stages.named("edge_selected")] == ["exit"]


def test_a_stage_that_was_not_begun_has_its_first_visit() -> None:
    """The run was killed between two stages: routing decides as it would have."""
    stages, from_node, _ = resumed(LINE, saved_after(LINE, {}, killed_in="b"))
    assert (from_node, stages.visits) == ("b", ["b", "exit"])
    assert stages.state is not None
    assert stages.state.visits["b"] == 1
    assert [event["to_node"] for event in stages.named("edge_selected")] == ["b", "exit"]


def test_a_failed_run_goes_on_at_the_failed_node() -> None:
    """Nothing routes a failure on: the node that failed is run again."""
    stages, from_node, _ = resumed(LINE, saved_after(LINE, {"b": [failure("exit status 3")]}))
    assert (from_node, stages.visits) == ("b", ["b", "exit"])
    assert stages.finish is not None
    assert stages.finish.status == "success"


def test_a_failure_that_an_edge_takes_is_not_run_again() -> None:
    """The run was interrupted after it: the path goes on where it was going."""
    graph = graph_of([node("a"), node("b")], [edge("start", "a"), edge("a", "b", condition="outcome=fail"), edge("b", "exit")])
    stages, from_node, _ = resumed(graph, saved_after(graph, {"a": [FAILED]}, killed_in="b"))
    assert (from_node, stages.visits) == ("b", ["b", "exit"])


def test_the_counted_failures_of_the_failed_node_are_forgotten() -> None:
    """Three equal failures ended the run; the fourth takes the fail edge again instead of ending it at once."""
    graph = graph_of(
        [node("a"), node("fix")],
        [
            edge("start", "a"),
            edge("a", "exit", condition="outcome=success"),
            edge("a", "fix", condition="outcome=fail"),
            edge("fix", "a"),
        ],
    )
    same = [failure("exit status 1")]
    saved = saved_after(graph, {"a": same})
    assert max(saved.failure_signatures.values()) == 3
    stages, from_node, _ = resumed(graph, saved, {"a": [*same, success()]})
    assert (from_node, stages.visits) == ("a", ["a", "fix", "a", "exit"])


def test_an_unsatisfied_gate_is_the_node_to_run_again() -> None:
    """A run that failed at an exit goes on at the gate, not at the stage before the exit."""
    graph = graph_of([node("gate", goal_gate="true"), node("b")], [edge("start", "gate"), edge("gate", "b"), edge("b", "exit")])
    stages, from_node, _ = resumed(graph, saved_after(graph, {"gate": [FAILED]}))
    assert (from_node, stages.visits) == ("gate", ["gate", "b", "exit"])


def test_a_satisfied_gate_is_not_judged_again() -> None:
    """Its outcome is in the checkpoint."""
    graph = graph_of([node("gate", goal_gate="true"), node("b")], [edge("start", "gate"), edge("gate", "b"), edge("b", "exit")])
    stages, _, _ = resumed(graph, saved_after(graph, {}, killed_in="b"), b=1)
    assert stages.visits == ["b", "exit"]
    assert stages.finish is not None
    assert stages.finish.status == "success"


def test_a_visit_limit_does_not_keep_the_interrupted_stage_from_running() -> None:
    """A limit of 2 allows one visit in a cycle; the interrupted one was none."""
    graph = graph_of([node("a", max_node_visits="2")], [edge("start", "a"), edge("a", "exit")])
    stages, _, _ = resumed(graph, saved_after(graph, {}, killed_in="a"), a=1)
    assert stages.visits == ["a", "exit"]
    assert stages.finish is not None
    assert stages.finish.status == "success"


def test_retry_counters_are_kept() -> None:
    """What a stage spent before the interruption stays spent in the records."""
    graph = graph_of(
        [node("a", max_retries="1", shape="parallelogram", tool_command="x"), node("b")],
        [edge("start", "a"), edge("a", "b"), edge("b", "exit")],
    )
    stages, _, _ = resumed(graph, saved_after(graph, {"a": [FAILED, FAILED]}, killed_in="b"))
    assert stages.state is not None
    assert stages.state.retries["a"] == 1


def test_a_run_that_only_had_to_end_ends() -> None:
    """Killed after its exit: no stage runs, the end is the same."""
    stages, from_node, _ = resumed(LINE, saved_after(LINE, {}))
    assert (from_node, stages.visits) == ("exit", [])
    assert stages.finish is not None
    assert stages.finish.status == "success"


def test_a_run_without_any_finished_stage_begins_at_its_start() -> None:
    """Also where the start node itself was interrupted."""
    fresh = initial_state(LINE, run_id="r", inputs={})
    for begun in (0, 1):
        stages, from_node, _ = resumed(LINE, fresh, start=begun)
        assert (from_node, stages.visits) == ("start", ["start", "a", "b", "exit"])


def test_a_pipeline_without_the_saved_node_is_refused() -> None:
    """A forced change may not take away the ground under the checkpoint."""
    other = graph_of([node("z")], [edge("start", "z"), edge("z", "exit")])
    with pytest.raises(CheckpointMismatch, match='at node "a", which the pipeline does not have'):
        resumed_state(other, saved_after(LINE, {}, killed_in="b"), lambda _: 0)


def test_inputs_that_are_given_anew_replace_the_old_ones() -> None:
    """Both forms of an input in the context change; the others stay."""
    state = with_inputs(initial_state(LINE, run_id="r", inputs={"x": "1", "y": "2"}), {"x": "3"})
    assert (state.context["input.x"], state.context["input.y"]) == ("3", "2")
    assert state.context["inputs"] == {"x": "3", "y": "2"}


def test_a_failure_that_a_diamond_handed_on_is_mended_at_its_stage() -> None:
    """Visited again, the diamond would only hand on the same failure: no resume could ever help."""
    edges = [edge("start", "a"), edge("a", "d"), edge("d", "d2", condition="outcome=fail")]
    nodes = [node("a", tool_command="x"), node("d", shape="diamond"), node("d2", shape="diamond")]
    graph = graph_of(nodes, [*edges, edge("d", "exit"), edge("d2", "exit", condition="outcome=success")])
    stages, from_node, _ = resumed(graph, saved_after(graph, {"a": [FAILED]}), {"a": [success()]})
    assert (from_node, stages.visits) == ("a", ["a", "d", "exit"])


def test_a_diamond_that_no_success_can_leave_is_looked_at_again() -> None:
    """Nothing failed before it, so no stage is run again: the pipeline has to change."""
    nodes = [node("a", tool_command="x"), node("d", shape="diamond")]
    graph = graph_of(nodes, [edge("start", "a"), edge("a", "d"), edge("d", "exit", condition="outcome=fail")])
    _, from_node, _ = resumed(graph, saved_after(graph, {}))
    assert from_node == "d"
