"""A branch as a walk of its own."""

from __future__ import annotations

from dataclasses import replace

from scripted_walk import Stages, edge, graph_of, node, outcome_of

from kilroy_engine.graph.model import Graph
from kilroy_engine.graph.vocabulary import Fidelity
from kilroy_engine.traversal.branch_plan import Branch, branch_outcome, branch_plan, branch_state, changed_context
from kilroy_engine.traversal.fidelity import Carried, carried_into
from kilroy_engine.traversal.fold import enter, initial_state
from kilroy_engine.traversal.outcome import Outcome
from kilroy_engine.traversal.resume import resumed_state
from kilroy_engine.traversal.state import Finish, RunState, Visit
from kilroy_engine.traversal.walk import next_step, walk


def fan(*, middle: str = "parallelogram") -> Graph:
    """start -> p -> {A -> A2, b} -> j -> exit"""
    nodes = [node("p", shape="component"), node("j", shape="tripleoctagon")]
    nodes += [node("A", shape="parallelogram"), node("A2", shape=middle), node("b", shape="parallelogram")]
    links = [edge("start", "p"), edge("p", "A"), edge("p", "b"), edge("A", "A2"), edge("A2", "j"), edge("b", "j")]
    return graph_of(nodes, [*links, edge("j", "exit")])


class Kept(Stages):
    """Keeps the state in which the walk was over."""

    last: RunState

    def finished(self, finish: Finish, state: RunState, /) -> None:
        super().finished(finish, state)
        self.last = state


def go(graph: Graph, number: int, script: dict[str, list[Outcome]]) -> tuple[Outcome, Kept]:
    plan = branch_plan(graph, graph.nodes["p"])
    assert plan is not None
    branch = plan.branches[number]
    before = initial_state(graph, run_id="RUN", inputs={})
    stages = Kept(graph, script)
    state = branch_state(before, graph.nodes["p"], branch)
    finish = walk(graph, state, perform=stages.perform, recorder=stages, until=plan.join_node_id)
    return branch_outcome(graph, branch, plan.join_node_id, finish, stages.last), stages


def test_every_edge_is_a_branch_with_a_key_of_its_own() -> None:
    """Kilroy: keys are the lower-case ids of the first nodes, numbered by edge; two edges to one node do not collide here."""
    graph = fan()
    plan = branch_plan(graph, graph.nodes["p"])
    assert plan is not None
    assert plan.branches == (Branch(1, "a", "A", 1), Branch(2, "b", "b", 2))
    assert (plan.join_node_id, plan.merges) == ("j", True)
    twice = graph_of(
        [node("p", shape="component"), node("a"), node("j", shape="tripleoctagon")],
        [edge("p", "a"), edge("p", "a"), edge("a", "j")],
    )
    twin = branch_plan(twice, twice.nodes["p"])
    assert twin is not None
    assert [branch.key for branch in twin.branches] == ["a", "a-2"]


def test_a_key_that_was_made_unique_is_no_other_branchs() -> None:
    """The third edge leads to the first one's node, and its number makes it the name of the second."""
    nodes = [node("p", shape="component"), node("a"), node("a-3"), node("j", shape="tripleoctagon")]
    links = [edge("p", "a"), edge("p", "a-3"), edge("p", "a"), edge("a", "j"), edge("a-3", "j")]
    graph = graph_of(nodes, links)
    plan = branch_plan(graph, graph.nodes["p"])
    assert plan is not None
    assert [branch.key for branch in plan.branches] == ["a", "a-3", "a-3-3"]


def test_a_branch_walks_to_the_join_and_no_further() -> None:
    """Stages of the branch only; the join is the run's."""
    outcome, stages = go(fan(), 0, {})
    assert stages.visits == ["A", "A2"]
    assert outcome.status == "success"


def test_a_later_stage_answers_for_a_failed_one() -> None:
    """The branch is judged by its last stage: a failure that a later stage came after is answered for."""
    failed = outcome_of("fail: exit status 1")
    assert go(fan(), 0, {"A": [failed]})[0].status == "success"
    last, _ = go(fan(), 0, {"A2": [failed]})
    assert (last.status, last.failure_reason) == ("fail", "exit status 1")


def test_a_conditional_node_at_the_end_answers_for_nothing() -> None:
    """A diamond carries the outcome that led to it, so a branch that ends with one failed if the stage before it did."""
    outcome, _ = go(fan(middle="diamond"), 0, {"A": [outcome_of("fail: exit status 1")]})
    assert (outcome.status, outcome.failure_reason) == ("fail", "exit status 1")


def test_a_branch_that_ends_before_the_join_has_failed() -> None:
    """At an exit, or with a failure that no edge takes: whatever its last stage says."""
    nodes = [node("p", shape="component"), node("j", shape="tripleoctagon"), node("a"), node("b")]
    links = [edge("start", "p"), edge("p", "a"), edge("p", "b"), edge("a", "j", condition="outcome=fail")]
    graph = graph_of(nodes, [*links, edge("a", "exit", condition="outcome=success"), edge("b", "j"), edge("j", "exit")])
    outcome, _ = go(graph, 0, {})
    assert (outcome.status, outcome.failure_reason) == ("fail", 'branch a ended at node "exit", before the join "j"')


def test_an_unsatisfied_goal_gate_fails_its_branch() -> None:
    """Gates in a branch are judged where the branch ends: the run's own exit does not know its stages."""
    graph = fan()
    gate = node("A", shape="parallelogram", goal_gate="true")
    gated = Graph(graph.name, {**graph.nodes, "A": gate}, graph.edges, graph.attributes)
    outcome, _ = go(gated, 0, {"A": [outcome_of("fail: no")]})
    assert outcome.failed
    assert "goal gate unsatisfied (A)" in outcome.failure_reason


def test_branches_share_nothing() -> None:
    """Spec 4.8: each has a context of its own; what one changes, down to the depth of a value, no other sees."""
    graph = fan()
    state = initial_state(graph, run_id="RUN", inputs={"who": "me"})
    first, second = (branch_state(state, graph.nodes["p"], Branch(n, "k", "A")) for n in (1, 2))
    inputs = first.context["inputs"]
    assert isinstance(inputs, dict)
    inputs["who"] = "other"
    assert second.context["inputs"] == state.context["inputs"] == {"who": "me"}
    assert first.context["previous_node"] == "p"


def test_a_branch_goes_on_with_no_session_and_is_told_what_its_edge_says() -> None:
    """Two branches would both continue it (Spec 5.4); a summary that a resume owes the next agent is owed in each branch."""
    graph = graph_of(
        [node("p", shape="component"), node("A"), node("B"), node("j", shape="tripleoctagon")],
        [edge("p", "A", fidelity="full", thread_id="t"), edge("p", "B"), edge("A", "j"), edge("B", "j")],
    )
    plan = branch_plan(graph, graph.nodes["p"])
    assert plan is not None
    before = replace(initial_state(graph, run_id="RUN", inputs={}), sessions={"t": "s1"}, last_fidelity="full")

    def told(state: RunState, number: int) -> Carried:
        begins, _ = resumed_state(graph, branch_state(state, graph.nodes["p"], plan.branches[number]), lambda node_id: 0)
        visit = next_step(graph, begins)
        assert isinstance(visit, Visit)
        return carried_into(graph, enter(begins, visit), visit)

    assert told(before, 0) == Carried(Fidelity.FULL, "t", "")
    assert told(before, 1) == Carried(Fidelity.COMPACT)
    assert told(replace(before, degrade_fidelity=True), 0) == Carried(Fidelity.SUMMARY_HIGH, "t")


def test_what_a_branch_changed_is_told_without_what_the_walk_itself_writes() -> None:
    """Only what stages set: not where the walk is, not its counters."""
    before = {"k": 1, "same": [1], "current_node": "p"}
    after = {"k": 2, "same": [1], "new": "x", "current_node": "a", "internal.retry_count.a": 0, "completed_nodes": ["a"]}
    assert changed_context(before, after) == {"k": 2, "new": "x"}
