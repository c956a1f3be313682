"""The walk: recorded runs, goal gates, breakers, diamonds, fan-outs, and the state that it leaves behind."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from scripted_walk import Stages, edge, failure, graph_of, node, outcome_of, success, walked

from kilroy_engine.errors import CheckpointMismatch, InvalidPipeline
from kilroy_engine.graph.dot.parse import parse_dot
from kilroy_engine.graph.model import Graph
from kilroy_engine.traversal.fold import apply_outcome, enter, initial_state
from kilroy_engine.traversal.outcome import FinalStatus, Outcome, Status
from kilroy_engine.traversal.state import Finish, RunState, Visit
from kilroy_engine.traversal.walk import next_step

DATA = Path(__file__).parents[2] / "data"
GATE_CASES = yaml.safe_load((DATA / "conformance/goal_gate_retry.yaml").read_text())["goal_gate"]

EXIT_1, EXIT_3 = failure("exit status 1"), failure("exit status 3")
RECORDED = {
    "03a-fail-unconditional-edge-continues": {"a": [EXIT_3]},
    "03b-fail-deadend-no-outgoing": {"b": [EXIT_3]},
    "04a-fail-edge-recover": {"a": [EXIT_3]},
    "05a-diamond-outcome-success": {},
    "05c-diamond-context-eq": {"a": [success(mode="fast", n=3, b=True)]},
    "05e-diamond-and": {"a": [success(mode="fast", n=3)]},
    "06a-retry-flaky-3rd": {"a": [EXIT_1, EXIT_1, success()]},
    "07a-goal-gate-unsatisfied-no-target": {"a": [EXIT_1]},
    "07e-goal-gate-satisfied": {},
    "09a-loop-until-3": {"c": [EXIT_1, EXIT_1, success()]},
    "09b-loop-max_node_visits": {"c": [EXIT_1]},
    "09c-loop-signature-breaker-default": {"c": [EXIT_1]},
    "17a-tool-status-preferred_label": {"a": [Outcome(Status.SUCCESS, preferred_label="two")]},
    "17b-tool-status-suggested_next_ids": {"a": [Outcome(Status.SUCCESS, suggested_next_ids=("y",))]},
    "18a-allow_partial": {"a": [EXIT_1]},
}
"""What each stage of a recorded Kilroy run came to, attempt by attempt (see the commands in its graph.dot)."""

COMPARED = {
    "retry_decision",
    "stage_retry_sleep",
    "deterministic_failure_cycle_check",
    "edge_condition_evaluated",
    "edge_selected",
    "no_matching_fail_edge_fallback",
    "stuck_cycle_breaker",
    "deterministic_failure_cycle_breaker",
}
STAGE_FAILED = "stage failed with no outgoing fail edge: "


def recorded(case: str) -> dict[str, Any]:
    return json.loads((DATA / "golden" / case / "recorded.json").read_text())


def graph_of_case(case: str) -> Graph:
    return parse_dot((DATA / "golden" / case / "graph.dot").read_text())


@pytest.mark.parametrize("case", RECORDED)
def test_a_recorded_run_is_walked_in_the_same_way(case: str) -> None:
    """Same decisions with the same fields in the same order, same end, same nodes, same retry counters as Kilroy's binary."""
    expected = recorded(case)
    stages = Stages(graph_of_case(case), RECORDED[case])
    finish = stages.run()
    assert stages.state is not None
    assert [e for e in stages.events if e["event"] in COMPARED] == [e for e in expected["events"] if e["event"] in COMPARED]
    assert finish.status == expected["final"]["status"]
    assert finish.reason.removeprefix(STAGE_FAILED).startswith(expected["final"].get("failure_reason", ""))
    if case != "09c-loop-signature-breaker-default":  # Kilroy drops the breaking failure from its checkpoint
        assert list(stages.state.completed) == expected["completed_nodes"]
    assert stages.state.retries == expected["node_retries"]


def test_the_breaking_failure_is_part_of_the_state() -> None:
    """Other than Kilroy, whose checkpoint ends one node earlier."""
    case = "09c-loop-signature-breaker-default"
    stages = Stages(graph_of_case(case), RECORDED[case])
    stages.run()
    assert stages.state is not None
    assert list(stages.state.completed) == [*recorded(case)["completed_nodes"], "c"]


@pytest.mark.parametrize("case", ["03c-fail-only-success-edge", "06b-retry-exhausted"])
def test_a_failed_stage_does_not_fall_through_a_condition_that_does_not_hold(case: str) -> None:
    """Kilroy takes the best conditional edge although it is false and reports success; here the run fails for the reason."""
    reason = recorded(case)["node_status"]["a"]["failure_reason"]
    stages = Stages(graph_of_case(case), {"a": [failure(reason)]})
    finish = stages.run()
    assert (finish.status, finish.node_id) == ("fail", "a")
    assert finish.reason == f"{STAGE_FAILED}{reason} (at node a)"
    assert stages.visits == ["start", "a"]
    before = [e for e in recorded(case)["events"] if e["event"] in COMPARED and e.get("selection_method") != "fallback"]
    assert [e for e in stages.events if e["event"] in COMPARED] == before


def test_a_failed_stage_goes_to_its_retry_target_at_once() -> None:
    """Kilroy follows the plain edge and returns from the exit, the gate being unsatisfied; Spec 3.7 jumps before that."""
    case = "07b-goal-gate-retry-target-node"
    assert recorded(case)["completed_nodes"] == ["start", "w", "a", "b", "w", "a", "b", "exit"]
    stages = Stages(graph_of_case(case), {"a": [EXIT_1, success()]})
    assert stages.run().status == recorded(case)["final"]["status"]
    assert stages.visits == ["start", "w", "a", "w", "a", "b", "exit"]
    assert stages.named("no_matching_fail_edge_fallback") == [
        {"event": "no_matching_fail_edge_fallback", "node_id": "a", "retry_target": "w", "failure_reason": "exit status 1"}
    ]


@pytest.mark.parametrize(
    ("case", "script", "here", "there", "method"),
    [
        ("17c-tool-status-fail-but-exit0", {"a": [failure("self-reported")]}, "a", "x", "lexical_tiebreak"),
        ("19a-weights", {}, "s", "y", "weight"),
    ],
)
def test_several_edges_without_a_condition_do_not_fan_out(
    case: str, script: dict[str, list[Outcome]], here: str, there: str, method: str
) -> None:
    """Kilroy runs them all in parallel where they meet again; here one is chosen, as the spec has it."""
    assert any(event["event"] == "implicit_fan_out" for event in recorded(case)["events"])
    stages = Stages(graph_of_case(case), script)
    assert stages.run().status == recorded(case)["final"]["status"]
    assert stages.visits == ["start", here, there, "exit"]
    assert stages.named("edge_selected")[1]["selection_method"] == method


@pytest.mark.parametrize("case", GATE_CASES, ids=lambda case: case["name"])
def test_goal_gate_conformance(case: dict[str, Any]) -> None:
    """Every shared case on goal gates: status and order of visits."""
    graph = parse_dot(case["dot"])
    stages = Stages(graph, {n: [outcome_of(word) for word in words] for n, words in case["script"].items()})
    finish = stages.run()
    assert finish.status == case["want"]["status"]
    assert stages.visits == case["want"].get("visits", stages.visits)


def test_an_unsatisfied_gate_is_announced_and_its_target_may_be_the_graphs() -> None:
    """The jump back from the exit is a decision of its own; the exit is not visited before the gate is satisfied."""
    gate = node("a", goal_gate="true")
    edges = [edge("start", "w"), edge("w", "a"), edge("a", "exit", condition="outcome!=retry")]
    graph = graph_of([node("w"), gate], edges, retry_target="exit", fallback_retry_target="w")
    stages = walked(graph, a=["fail: one", "skipped", "success"])
    assert stages.visits == ["start", "w", "a", "w", "a", "w", "a", "exit"]
    assert stages.named("goal_gate_retry") == [{"event": "goal_gate_retry", "gate": "a", "target": "w"}] * 2


def test_the_gate_that_was_completed_first_decides() -> None:
    """Several unsatisfied gates: the order of completion, not of the file or of names."""
    gates = [node("a", goal_gate="true", retry_target="a"), node("z", goal_gate="true")]
    edges = [edge("start", "z"), edge("z", "a"), edge("a", "exit", condition="outcome=fail")]
    finish = walked(graph_of(gates, edges), a=["fail"], z=["fail"]).finish
    assert finish is not None
    assert (finish.status, finish.node_id) == ("fail", "z")
    assert finish.reason == "goal gate unsatisfied (z) and no retry target"


def test_a_dead_end_keeps_the_gates_promise() -> None:
    """A node without outgoing edges ends a run with success, but not past a gate that is unsatisfied."""
    edges = [edge("start", "a"), edge("a", "b")]
    assert walked(graph_of([node("a"), node("b")], edges)).finish == Finish(FinalStatus.SUCCESS, "", "b")
    finish = walked(graph_of([node("a", goal_gate="true"), node("b")], edges), a=["fail"]).finish
    assert finish is not None
    assert finish.reason == "goal gate unsatisfied (a) and no retry target"


def test_success_without_a_matching_edge_fails_the_run() -> None:
    """Nothing is silently done: a success that fits no edge, and a custom word that nobody waits for."""
    graph = graph_of([node("a")], [edge("start", "a"), edge("a", "exit", condition="outcome=partial_success")])
    for word in ("success", "approved"):
        finish = walked(graph, a=[word]).finish
        assert finish is not None
        assert (finish.status, finish.node_id) == ("fail", "a")
        assert finish.reason.startswith(f'no outgoing edge matched (at node a, outcome "{word}")')
    finish = walked(graph_of([node("a")], [edge("start", "a")]), a=["approved"]).finish
    assert finish is not None
    assert finish.reason.startswith("no outgoing edge matched")


def test_a_failure_before_an_exit_says_why_the_exit_was_not_taken() -> None:
    """The reason is one line: what failed, where, and what an edge to the exit would need."""
    finish = walked(
        graph_of([node("a")], [edge("start", "a"), edge("a", "exit")]), a=["fail: exit status 127\n  hint: commit it"]
    ).finish
    assert finish is not None
    assert finish.reason.startswith(
        f"{STAGE_FAILED}exit status 127; hint: commit it (at node a); a failed stage reaches an exit only"
    )
    assert "\n" not in finish.reason


def test_an_exit_that_failed_ends_no_run_in_success() -> None:
    """Nothing can be routed behind it: the work that it should have recorded is not where the run would say it is."""
    finish = walked(graph_of([], [edge("start", "exit")]), exit=[failure("disk full")]).finish
    assert finish is not None
    assert (finish.status, finish.reason) == (FinalStatus.FAIL, "exit stage failed: disk full (at node exit)")


class TestConditionalNodes:
    """A diamond carries the outcome that led to it."""

    EDGES = (
        edge("start", "a"),
        edge("a", "d"),
        edge("d", "e"),
        edge("e", "exit", condition="outcome=success"),
        edge("e", "fix", condition="outcome=fail && context.failure_class=deterministic"),
        edge("fix", "exit"),
    )

    def graph(self, *edges: Any) -> Graph:
        stages = [node("a"), node("d", shape="diamond"), node("e", shape="diamond"), node("fix")]
        return graph_of(stages, edges or self.EDGES)

    def test_conditions_see_the_outcome_that_led_to_the_diamond(self) -> None:
        """Through several diamonds; the diamonds themselves succeed, and what follows them hears of the failed stage."""
        stages = walked(self.graph(), a=["fail: boom"])
        assert stages.visits == ["start", "a", "d", "e", "fix", "exit"]
        state = stages.state
        assert state is not None
        assert [state.outcomes[n].status for n in ("a", "d", "e")] == ["fail", "success", "success"]
        assert walked(self.graph()).visits == ["start", "a", "d", "e", "exit"]

    def test_context_keeps_telling_about_the_failed_stage(self) -> None:
        """Outcome, label, reason and class stay as they were; a diamond's other updates are taken."""
        graph = self.graph()
        state = initial_state(graph, run_id="r", inputs={})
        state = apply_outcome(graph, state, Visit("a", 1), failure("boom").with_updates(preferred_label="Fix"))
        state = apply_outcome(graph, state, Visit("d", 1), success(seen="yes", outcome="success"))
        told = [state.context[key] for key in ("outcome", "preferred_label", "failure_reason", "failure_class", "seen")]
        assert told == ["fail", "Fix", "boom", "deterministic", "yes"]
        assert enter(state, Visit("e", 1)).context["previous_outcome"] == "fail"

    def test_a_carried_failure_reaches_no_exit_over_a_plain_edge(self) -> None:
        """The rule looks through the diamond."""
        graph = self.graph(edge("start", "a"), edge("a", "d"), edge("d", "exit"))
        finish = walked(graph, a=["fail: boom"]).finish
        assert finish is not None
        assert finish.reason.startswith(f"{STAGE_FAILED}boom (at node d)")
        assert walked(graph).visits == ["start", "a", "d", "exit"]

    def test_a_diamond_routes_by_the_label_that_the_stage_preferred(self) -> None:
        """Labels are carried; suggested ids were meant for the stage's own edges."""
        graph = self.graph(
            edge("start", "a"), edge("a", "d"), edge("d", "e", label="No", weight=9), edge("d", "fix", label="Yes")
        )
        assert walked(graph, a=[Outcome("success", preferred_label="yes")]).visits[-1] == "fix"
        assert walked(graph, a=[Outcome("success", suggested_next_ids=("d", "fix"))]).visits[-1] == "e"

    def test_three_different_failures_through_one_diamond_do_not_end_the_run(self) -> None:
        """Kilroy counts the diamond's carried failures under the diamond's id and aborts."""
        tools = [node(t, type="tool") for t in ("t1", "t2", "t3")]
        edges = [edge("start", "t1")]
        for here, there in (("t1", "t2"), ("t2", "t3"), ("t3", "exit")):
            edges += [edge(here, "d"), edge("d", there, condition=f"context.at={here}")]
        plays = {t: [failure("exit status 1", at=t)] for t in ("t1", "t2", "t3")}
        stages = walked(graph_of([*tools, node("d", shape="diamond")], edges), **plays)
        assert stages.visits == ["start", "t1", "d", "t2", "d", "t3", "d", "exit"]
        assert {check["node_id"] for check in stages.named("deterministic_failure_cycle_check")} == {"t1", "t2", "t3"}


class TestFailureCycles:
    """The same failure three times ends the run."""

    LOOP = (
        edge("start", "t"),
        edge("t", "exit", condition="outcome=success"),
        edge("t", "w", condition="outcome=fail"),
        edge("w", "t"),
    )

    def graph(self, **values: object) -> Graph:
        return graph_of([node("t", type="tool"), node("w")], self.LOOP, **values)

    @staticmethod
    def failing_test(name: str) -> Outcome:
        return failure("exit status 1", **{"tool.output": f"FAILED {name}"})

    def test_the_message_says_how_often_and_how_to_allow_more(self) -> None:
        """Kilroy's text first, then the attribute to raise; the limit itself may be raised."""
        finish = walked(self.graph(), t=["fail: exit status 1"]).finish
        assert finish is not None
        assert finish.reason.startswith(
            'run aborted: deterministic failure cycle detected — signature "t|deterministic|exit status <n>" '
            "repeated 3 times (limit 3); likely a persistent provider or auth error"
        )
        assert "raise loop_restart_signature_limit" in finish.reason
        stages = walked(self.graph(loop_restart_signature_limit=5), t=["fail: exit status 1"])
        assert stages.executions["t"] == 5
        assert walked(self.graph(loop_restart_signature_limit=0), t=["fail: exit status 1"]).executions["t"] == 3

    def test_a_loop_whose_failures_change_goes_on(self) -> None:
        """Different output is a different failure; the same one three times, even with others in between, is a cycle."""
        changing = [self.failing_test(f"test_{letter}") for letter in "abcdef"]
        assert walked(self.graph(), t=[*changing, success()]).visits[-1] == "exit"
        alternating = [self.failing_test("test_x"), self.failing_test("test_y")] * 4
        assert walked(self.graph(), t=alternating).executions["t"] == 5

    def test_a_success_clears_the_nodes_counts(self) -> None:
        """Only of the node that succeeded."""
        edges = [*self.LOOP[2:], edge("start", "t"), edge("t", "u", condition="outcome=success")]
        edges += [edge("u", "exit", condition="outcome=success"), edge("u", "w", condition="outcome=fail")]
        graph = graph_of([node("t", type="tool"), node("u", type="tool"), node("w")], edges)
        plays = {"t": [EXIT_1, EXIT_1, success()] * 2, "u": [EXIT_1, success()]}
        stages = walked(graph, **plays)
        assert stages.visits[-1] == "exit"
        counts = stages.state.failure_signatures if stages.state else None
        assert counts == {}

    def test_failures_that_may_pass_are_not_counted(self) -> None:
        """Transient failures are left to retries and to the visit limit."""
        stages = walked(self.graph(), t=["fail: connection reset"])
        assert stages.executions["t"] == 49
        assert stages.named("deterministic_failure_cycle_check") == []


class TestVisitLimits:
    """A node may be reached only so often."""

    def looping(self, of_graph: dict[str, object] | None = None, **of_node: object) -> Stages:
        edges = [edge("start", "w"), edge("w", "v"), edge("v", "w")]
        return walked(graph_of([node("w", **of_node), node("v")], edges, **(of_graph or {})))

    @pytest.mark.parametrize(
        ("of_graph", "of_node", "stuck", "limit"),
        [
            ({}, {}, "w", 50),
            ({"max_node_visits": 3}, {}, "w", 3),
            ({"max_node_visits": 9}, {"max_node_visits": 4}, "w", 4),
            ({"max_node_visits": 3}, {"max_node_visits": 5}, "v", 3),
        ],
    )
    def test_the_arrival_that_reaches_the_limit_ends_the_run(
        self, of_graph: dict[str, object], of_node: dict[str, object], stuck: str, limit: int
    ) -> None:
        """Node before graph before 50; a limit of 3 allows two visits, as in Kilroy."""
        stages = self.looping(of_graph, **of_node)
        assert stages.visits.count(stuck) == limit - 1
        assert stages.finish is not None
        assert stages.finish.reason == (
            f'run aborted: node "{stuck}" visited {limit} times in this iteration (limit {limit}); pipeline is stuck in a cycle'
            "; to allow more, raise max_node_visits on the node or on the graph"
        )

    def test_a_limit_below_one_switches_the_breaker_off(self) -> None:
        """As in Kilroy; the other node of the loop still ends it."""
        stages = self.looping(max_node_visits=0)
        assert stages.finish is not None
        assert stages.finish.node_id == "v"


class TestFanOut:
    """The edges of a parallel node are its branches and are not routed over."""

    def graph(self, **values: object) -> Graph:
        nodes = [node("p", shape="component", **values), node("b1"), node("b2"), node("j", shape="tripleoctagon"), node("w")]
        edges = [edge("start", "p"), edge("p", "b1"), edge("p", "b2"), edge("b1", "j"), edge("b2", "j")]
        return graph_of(nodes, [*edges, edge("j", "exit"), edge("w", "p")])

    def joined(self, status: str) -> Outcome:
        return Outcome(status, failure_reason="2 of 2 branches failed", context_updates={"parallel.join_node": "j"})

    def test_the_walk_goes_on_at_the_join(self) -> None:
        """Success and partial success alike; no edge is selected, as in Kilroy."""
        for status in ("success", "partial_success"):
            stages = walked(self.graph(), p=[self.joined(status)])
            assert stages.visits == ["start", "p", "j", "exit"]
            assert [e["from_node"] for e in stages.named("edge_selected")] == ["start", "j"]

    def test_a_failed_fan_out_goes_to_its_retry_target_or_fails(self) -> None:
        """Kilroy goes on at the join as if nothing had happened."""
        finish = walked(self.graph(), p=[self.joined("fail")]).finish
        assert finish is not None
        assert finish.reason == f"{STAGE_FAILED}2 of 2 branches failed (at node p)"
        stages = walked(self.graph(retry_target="w"), p=[self.joined("fail"), self.joined("success")])
        assert stages.visits == ["start", "p", "w", "p", "j", "exit"]
        assert len(stages.named("no_matching_fail_edge_fallback")) == 1

    def test_a_fan_out_that_names_no_join_fails_the_run(self) -> None:
        """A broken handler is reported, not guessed around."""
        finish = walked(self.graph()).finish
        assert finish is not None
        assert finish.reason == "parallel node missing parallel.join_node in context (at node p)"


def test_context_tells_where_the_run_is_and_comes_from() -> None:
    """Graph attributes, goal, base commit and inputs from the start; Kilroy's built-ins on arrival; the outcome afterwards."""
    graph = graph_of([node("a")], [edge("start", "a"), edge("a", "exit", condition="outcome=fail")], goal="ship it", x="1")
    state = initial_state(graph, run_id="r", inputs={"pr": "7"}, base_sha="abc")
    assert state.context == {
        "graph.goal": "ship it",
        "graph.x": "1",
        "base_sha": "abc",
        "input.pr": "7",
        "inputs": {"pr": "7"},
    }
    state = enter(state, Visit("start", 1))
    assert [state.context[k] for k in ("previous_node", "previous_outcome", "current_node")] == ["", "", "start"]
    state = enter(apply_outcome(graph, state, Visit("start", 1), success()), Visit("a", 1))
    state = apply_outcome(graph, state, Visit("a", 1), failure("timed out", **{"tool.output": "x"}).with_updates(retries=2))
    told = ("previous_node", "previous_outcome", "completed_nodes", "outcome", "failure_reason", "failure_class", "tool.output")
    assert [state.context[k] for k in told] == ["start", "success", ["start"], "fail", "timed out", "transient_infra", "x"]
    assert (state.visits, state.retries) == ({"start": 1, "a": 1}, {"start": 0, "a": 2})
    state = enter(state, Visit("a", 2))
    assert state.context["internal.retry_count.a"] == 2
    state = apply_outcome(graph, state, Visit("a", 2), success())
    assert (state.retries["a"], state.context["failure_class"], state.context["failure_reason"]) == (0, "", "")


def test_retries_that_were_spent_in_vain_are_counted() -> None:
    """The counter of the node is what the checkpoint calls ``node_retries``."""
    graph = graph_of([node("a", type="tool", max_retries=2)], [edge("start", "a"), edge("a", "exit", condition="outcome=fail")])
    graph_state = walked(graph_of([], [edge("start", "exit")])).state
    assert graph_state is not None
    assert graph_state.retries == {"start": 0}
    stages = Stages(graph, {"a": [EXIT_1]})
    stages.run()
    assert stages.state is not None
    assert stages.state.retries == {"start": 0, "a": 2}


def from_json(text: str) -> RunState:
    """The state as whoever reads a checkpoint restores it."""
    fields = json.loads(text)
    for name in ("completed", "logs"):
        fields[name] = tuple(fields[name])
    fields["outcomes"] = {n: restored(o) for n, o in fields["outcomes"].items()}
    fields["routing_outcome"] = fields["routing_outcome"] and restored(fields["routing_outcome"])
    return RunState(**fields)


def restored(fields: dict[str, Any]) -> Outcome:
    return Outcome(**{**fields, "suggested_next_ids": tuple(fields["suggested_next_ids"])})


@pytest.mark.parametrize("case", ["04a-fail-edge-recover", "05e-diamond-and", "09a-loop-until-3", "18a-allow_partial"])
def test_a_walk_may_be_continued_from_a_saved_state_at_any_point(case: str) -> None:
    """State, written as sorted JSON and read back, is equal and leads to the same next step."""
    graph = graph_of_case(case)
    stages = Stages(graph, RECORDED[case])
    state = initial_state(graph, run_id="RUN", inputs={"k": "v"}, base_sha="abc")
    while isinstance(step := next_step(graph, state), Visit):
        state = enter(state, step)
        outcome = stages.perform(step, state)
        state = apply_outcome(graph, state, step, outcome)
        saved = from_json(json.dumps(dataclasses.asdict(state), sort_keys=True))
        assert saved == state
        assert next_step(graph, saved) == next_step(graph, state)
    assert step.status == "success"


def test_a_jump_from_outside_outranks_routing_once() -> None:
    """A branch starts in the middle, a resumed run repeats a node; after that, edges decide again."""
    graph = graph_of([node("a"), node("b")], [edge("start", "a"), edge("a", "b"), edge("b", "exit")])
    stages = Stages(graph)
    stages.run(dataclasses.replace(initial_state(graph, run_id="r", inputs={}), jump_to="b"))
    assert stages.visits == ["b", "exit"]


def test_a_graph_without_a_start_and_a_foreign_state_are_refused() -> None:
    """Both are broken contracts: an exception that names what is wrong."""
    graph = Graph("g", {"a": node("a")}, ())
    with pytest.raises(InvalidPipeline, match="start_node"):
        next_step(graph, RunState("r"))
    with pytest.raises(CheckpointMismatch, match='"zz"'):
        next_step(graph, RunState("r", completed=("zz",), outcomes={"zz": success()}))
