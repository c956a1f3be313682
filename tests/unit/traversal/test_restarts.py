"""``loop_restart`` edges: what may restart, how often, and what the run begins again with."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from scripted_walk import Stages, edge, failure, graph_of, node, outcome_of, success

from kilroy_engine.graph.dot.parse import parse_dot
from kilroy_engine.graph.model import Graph
from kilroy_engine.traversal.fold import initial_state
from kilroy_engine.traversal.outcome import Outcome
from kilroy_engine.traversal.restarts import restarted
from kilroy_engine.traversal.resume import resumed_state
from kilroy_engine.traversal.state import Finish, Restart, RunState
from kilroy_engine.traversal.walk import next_step, walk

RESET = failure("timeout: connection reset", failure_class="transient_infra")
WRONG = failure("2 tests failed")
DECISIONS = {"edge_condition_evaluated", "edge_selected", "loop_restart_signature"}


@dataclass
class Restarting(Stages):
    """A walk that restarts as a run does. ``begun`` are the states that its restarts begin with, ``laps`` the nodes that were
    completed before each."""

    begun: list[RunState] = field(default_factory=list[RunState])
    laps: list[tuple[str, ...]] = field(default_factory=list[tuple[str, ...]])

    def run(self, state: RunState | None = None) -> Finish:
        begins = initial_state(self.graph, run_id="RUN", inputs={"pr": "7"}, base_sha="abc")

        at = state or begins
        while isinstance(step := walk(self.graph, at, perform=self.perform, recorder=self), Restart):
            at = restarted(begins, step)
            self.begun.append(at)
        return step

    def restarting(self, restart: Restart, state: RunState) -> None:
        super().restarting(restart, state)
        self.laps.append(state.completed)


def graph(**values: object) -> Graph:
    """Work, then a check that leads back over a restart when it fails."""
    nodes = [node("w", tool_command="x"), node("c", tool_command="x")]
    back = edge("c", "w", condition="outcome=fail", loop_restart="true")
    return graph_of(nodes, [edge("start", "w"), edge("w", "c"), edge("c", "exit", condition="outcome=success"), back], **values)


def walked(pipeline: Graph, **script: Sequence[Outcome]) -> Restarting:
    stages = Restarting(pipeline, script)
    stages.run()
    return stages


def test_a_transient_failure_restarts_the_run_at_the_target() -> None:
    """Visits, outcomes, completed nodes and retries begin anew; the count goes on."""
    stages = walked(graph(), c=[RESET, RESET, success()])
    assert stages.visits == ["start", "w", "c", "w", "c", "w", "c", "exit"]
    assert stages.finish is not None
    assert stages.finish.status == "success"
    assert stages.state is not None
    assert (stages.state.completed, stages.state.restart_count) == (("w", "c", "exit"), 2)
    assert stages.state.visits == {"w": 1, "c": 1, "exit": 1}
    assert stages.begun[0].retries == {}


def test_a_recorded_run_comes_to_its_restart_in_the_same_way() -> None:
    """Kilroy's base directory tells of the first lap: the same decisions, the same signature, the same nodes completed."""
    golden = Path(__file__).parents[2] / "data" / "golden" / "09h-loop_restart-transient"
    recorded = json.loads((golden / "recorded.json").read_text())
    stages = walked(parse_dot((golden / "graph.dot").read_text()), c=[RESET, RESET, success()])
    assert stages.finish is not None
    assert str(stages.finish.status) == recorded["final"]["status"]
    decisions = [event for event in stages.events if event["event"] in DECISIONS]
    first_lap = decisions[: 1 + next(at for at, event in enumerate(decisions) if event["event"] == "loop_restart_signature")]
    expected = [event for event in recorded["events"] if event["event"] in DECISIONS]
    assert [{key: event.get(key) for key in wanted} for event, wanted in zip(first_lap, expected, strict=True)] == expected
    assert list(stages.laps[0]) == recorded["completed_nodes"]


def test_the_context_begins_as_the_run_did() -> None:
    """Graph attributes, goal, base commit and (other than in Kilroy) the inputs; then what is told of the restart. No more."""
    stages = walked(graph(goal="ship"), w=[success(found="much", **{"graph.goal": "lost"})], c=[RESET, success()])
    assert stages.begun[0].context == {
        "graph.goal": "ship",
        "base_sha": "abc",
        "input.pr": "7",
        "inputs": {"pr": "7"},
        "loop_restart.iteration_count": 1,
        "loop_restart.from_node": "c",
    }


def test_listed_keys_outlive_a_restart() -> None:
    """loop_restart_persist_keys names context keys exactly; one that was never set stays so."""
    stages = walked(
        graph(loop_restart_persist_keys=" found , tool.output,never"), w=[success(found=[1, 2])], c=[RESET, success()]
    )
    kept = {key: stages.begun[0].context.get(key) for key in ("found", "tool.output", "never")}
    assert kept == {"found": [1, 2], "tool.output": None, "never": None}


def test_a_failure_of_another_class_is_blocked() -> None:
    """Kilroy's text, and what to do; the event names class and reason."""
    stages = walked(graph(), c=[WRONG])
    assert stages.finish is not None
    assert stages.finish.reason == (
        "loop_restart blocked: failure_class=deterministic (requires transient_infra), node=c, "
        "failure_reason=2 tests failed; lead other failures elsewhere than over c -> w"
    )
    assert [(event["target_node"], event["failure_class"]) for event in stages.named("loop_restart_blocked")] == [
        ("w", "deterministic")
    ]
    assert stages.begun == []


def test_the_same_failure_restarts_the_run_twice_and_ends_it_the_third_time() -> None:
    """Kilroy's breaker, apart from the one of failure cycles; the limit is the same attribute."""
    stages = walked(graph(), c=[RESET])
    assert len(stages.begun) == 2
    assert stages.finish is not None
    assert stages.finish.reason == (
        "loop_restart circuit breaker: failure signature repeated 3 times (limit 3): "
        "c|transient_infra|timeout: connection reset; to allow more, raise loop_restart_signature_limit on the graph"
    )
    assert [event["signature_count"] for event in stages.named("loop_restart_signature")] == [1, 2, 3]
    assert [event["restart_count"] for event in stages.named("loop_restart_signature")] == [0, 1, 2]
    assert len(stages.named("loop_restart_circuit_breaker")) == 1
    assert len(walked(graph(loop_restart_signature_limit=5), c=[RESET]).begun) == 4


def test_a_success_of_the_node_clears_its_count() -> None:
    """The trouble had passed: what comes later is counted anew."""
    back = edge("c", "w", condition="context.more=yes", loop_restart="true")
    pipeline = graph_of(
        [node("w", tool_command="x"), node("c", tool_command="x")],
        [
            edge("start", "w"),
            edge("w", "c"),
            back,
            edge("c", "w", condition="outcome=fail", loop_restart="true"),
            edge("c", "exit"),
        ],
    )
    fine = success(more="yes")
    stages = walked(pipeline, c=[RESET, RESET, fine, RESET, RESET, success(more="no")])
    assert stages.finish is not None
    assert stages.finish.status == "success"
    assert [event["signature_count"] for event in stages.named("loop_restart_signature")] == [1, 2, 1, 2]


def test_a_diamond_hands_the_failure_on() -> None:
    """Class and signature are those of the outcome that the diamond's conditions see, under the diamond's name (Kilroy)."""
    pipeline = graph_of(
        [node("c", tool_command="x"), node("d", shape="diamond")],
        [
            edge("start", "c"),
            edge("c", "d"),
            edge("d", "exit", condition="outcome=success"),
            edge("d", "c", condition="outcome=fail", loop_restart="true"),
        ],
    )
    stages = walked(pipeline, c=[RESET])
    assert [event["signature"] for event in stages.named("loop_restart_signature")] == [
        "d|transient_infra|timeout: connection reset"
    ] * 3
    blocked = walked(pipeline, c=[WRONG]).finish
    assert blocked is not None
    assert blocked.reason.startswith("loop_restart blocked: failure_class=deterministic (requires transient_infra), node=d")


@pytest.mark.parametrize(("limit", "allowed"), [({}, 50), ({"max_restarts": 2}, 2), ({"max_restarts": 0}, 0)])
def test_a_run_restarts_as_often_as_max_restarts_allows(limit: dict[str, object], allowed: int) -> None:
    """A success may lead over such an edge too: then only the number of restarts ends it."""
    again = edge("w", "w", loop_restart="true")
    stages = walked(graph_of([node("w", tool_command="x")], [edge("start", "w"), again], **limit))
    assert len(stages.begun) == allowed
    assert stages.finish is not None
    assert stages.finish.reason == (
        f"loop_restart limit exceeded ({allowed + 1} restarts, max {allowed}); to allow more, raise max_restarts on the graph"
    )
    assert stages.named("loop_restart_signature") == []


def test_counts_of_failing_cycles_are_carried_over() -> None:
    """A deterministic failure that comes back in every restart still trips its breaker."""
    pipeline = graph_of(
        [node("a", tool_command="x"), node("c", tool_command="x")],
        [edge("start", "a"), edge("a", "c"), edge("c", "a", condition="outcome=fail", loop_restart="true"), edge("c", "exit")],
    )
    finish = walked(pipeline, a=[WRONG], c=[RESET, RESET, success()]).finish
    assert finish is not None
    assert (
        'deterministic failure cycle detected — signature "a|deterministic|<n> tests failed" repeated 3 times' in finish.reason
    )


def test_a_branch_cannot_restart_the_run() -> None:
    """The run is not its own to begin again: its walk ends with a failure that says so, as in Kilroy."""
    stages = Stages(graph(), {"c": [RESET]})
    finish = stages.run()
    assert (str(finish.status), finish.reason.split(" (")[0]) == ("fail", "loop_restart is not supported in a branch")


def test_a_resume_makes_the_restart_that_was_due() -> None:
    """The run was killed after the failing stage: nothing is run again before it begins anew."""
    pipeline = graph()
    saved = replace(
        initial_state(pipeline, run_id="RUN", inputs={}),
        completed=("start", "w", "c"),
        outcomes={"c": RESET},
        routing_outcome=RESET,
        visits={"start": 1, "w": 1, "c": 1},
    )
    state, from_node = resumed_state(pipeline, saved, lambda node_id: 1)
    assert (state, from_node) == (saved, "w")
    assert isinstance(next_step(pipeline, state), Restart)


def test_a_resume_after_the_breaker_forgets_the_failure() -> None:
    """The stage that failed too often is visited again; its next failure is the first one."""
    pipeline = graph(loop_restart_signature_limit=1)
    failed = walked(pipeline, c=[RESET]).state
    assert failed is not None
    state, from_node = resumed_state(replace(pipeline), failed, lambda node_id: 1)
    assert (from_node, state.restart_signatures) == ("c", {})


def test_a_status_of_retry_counts_as_a_failure_too() -> None:
    """Kilroy: failure-like are fail and retry, and both need the class."""
    told = outcome_of("fail: rate limit")
    assert len(walked(graph(), c=[told, success()]).begun) == 1
