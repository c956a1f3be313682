"""What an agent's stage is given of the run: mode, thread, session."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scripted_walk import Stages, edge, graph_of, node, success

from kilroy_engine.graph.model import Graph, Node
from kilroy_engine.graph.vocabulary import Fidelity
from kilroy_engine.traversal.fidelity import Carried, carried_into, resolve_fidelity, resolve_thread
from kilroy_engine.traversal.fold import apply_outcome, enter, initial_state
from kilroy_engine.traversal.outcome import Outcome
from kilroy_engine.traversal.resume import resumed_state
from kilroy_engine.traversal.state import RunState, Visit
from kilroy_engine.traversal.walk import next_step

FULL = "full"


@pytest.mark.parametrize(
    ("of_edge", "of_node", "of_graph", "expected"),
    [
        ("truncate", "full", "summary:low", "truncate"),
        ("", "full", "summary:low", "full"),
        ("", "", "summary:low", "summary:low"),
        ("", "", "", "compact"),
        (" Summary:HIGH ", "", "", "summary:high"),
        ("everything", "full", "", "compact"),
        (None, "full", "", "full"),
    ],
)
def test_edge_goes_before_node_before_graph_before_compact(
    of_edge: str | None, of_node: str, of_graph: str, expected: str
) -> None:
    """Spec 5.4; a word that is no mode is ``compact``, in any case of letters (Kilroy)."""
    graph = graph_of([node("a", fidelity=of_node)], [], default_fidelity=of_graph)
    arrival = None if of_edge is None else edge("start", "a", fidelity=of_edge)
    assert resolve_fidelity(graph, graph.nodes["a"], arrival) == expected


def test_kilroys_name_for_the_graphs_default_comes_second() -> None:
    """``context_fidelity_default``."""
    graph = graph_of([node("a")], [], context_fidelity_default="truncate")
    assert resolve_fidelity(graph, graph.nodes["a"], None) == "truncate"
    both = graph_of([node("a")], [], context_fidelity_default="truncate", default_fidelity="full")
    assert resolve_fidelity(both, both.nodes["a"], None) == "full"


def test_a_thread_is_named_by_the_first_that_says_so() -> None:
    """Spec 5.4: node, edge, graph, subgraph's class, the node before. Kilroy adds ``context_thread_default`` and the node."""
    arrival = edge("plan", "a", thread_id="of-edge")
    of_graph = {"thread_id": "of-graph", "context_thread_default": "of-default"}
    bare = node("a")
    classed = replace(bare, classes=("loop-a", "code"))

    def thread(stage: Node, by: object, graph: dict[str, str], previous: str = "before") -> str:
        return resolve_thread(graph_of([stage], [], **graph), stage, by, previous)  # type: ignore[arg-type]

    assert thread(node("a", thread_id="of-node"), arrival, of_graph) == "of-node"
    assert thread(classed, arrival, of_graph) == "of-edge"
    assert thread(classed, edge("plan", "a"), of_graph) == "of-graph"
    assert thread(classed, edge("plan", "a"), {"context_thread_default": "of-default"}) == "of-default"
    assert thread(classed, edge("plan", "a"), {}) == "loop-a"
    assert thread(bare, edge("plan", "a"), {}) == "plan"
    assert thread(bare, None, {}) == "before"
    assert thread(bare, None, {}, previous="") == "a"


words = st.sampled_from(("", " ", "full", "FULL", "truncate", "compact", "summary:low", "summary:medium", "summary:high", "x"))
names = st.sampled_from(("", " ", "t1", "t2"))


@given(
    of_node=st.tuples(words, names, st.lists(st.sampled_from(("c1", "c2")), max_size=2)),
    of_edge=st.none() | st.tuples(words, names),
    of_graph=st.tuples(words, words, names, names),
    completed=st.lists(st.sampled_from(("start", "a")), max_size=2),
    sessions=st.dictionaries(st.sampled_from(("t1", "t2", "c1", "start", "a")), st.just("s"), max_size=3),
    degrade=st.booleans(),
)
def test_there_is_one_answer_for_every_pipeline(
    of_node: tuple[str, str, list[str]],
    of_edge: tuple[str, str] | None,
    of_graph: tuple[str, str, str, str],
    completed: list[str],
    sessions: dict[str, str],
    degrade: bool,
) -> None:
    """Total and deterministic: always one of the six modes, a thread with ``full`` and with its stand-in and nowhere else, a
    session only of that thread; asked again, and with the run's context changed, the same."""
    stage = replace(node("a", fidelity=of_node[0], thread_id=of_node[1]), classes=tuple(of_node[2]))
    arrivals = [] if of_edge is None else [edge("start", "a", fidelity=of_edge[0], thread_id=of_edge[1])]
    keys = ("default_fidelity", "context_fidelity_default", "thread_id", "context_thread_default")
    graph = graph_of([stage], arrivals, **dict(zip(keys, of_graph, strict=True)))
    state = RunState("r", completed=tuple(completed), sessions=sessions, degrade_fidelity=degrade)
    visit = Visit("a", 1, edge=0 if arrivals else None)

    carried = carried_into(graph, state, visit)

    assert carried.fidelity in tuple(Fidelity)
    assert carried == carried_into(graph, replace(state, context={"outcome": "fail"}, visits={"a": 7}), visit)
    plain = carried_into(graph, replace(state, degrade_fidelity=False), visit)
    if plain.fidelity != FULL:
        assert carried == plain == Carried(plain.fidelity)
    elif degrade:
        assert carried == Carried(Fidelity.SUMMARY_HIGH, plain.thread)
    else:
        assert carried.thread.strip()
        assert carried.session == sessions.get(carried.thread, "")


THREADED = graph_of(
    [
        node("a", thread_id="impl"),
        node("t", shape="parallelogram", tool_command="x"),
        node("b", thread_id="impl"),
        node("c", thread_id="review"),
        node("d", thread_id="impl"),
    ],
    [edge("start", "a"), edge("a", "t"), edge("t", "b"), edge("b", "c"), edge("c", "d"), edge("d", "exit")],
    default_fidelity="full",
)


def with_session(session: str) -> Outcome:
    return success().with_updates(session=session)


def given_in(
    graph: Graph, script: dict[str, list[Outcome]], state: RunState | None = None
) -> tuple[dict[str, Carried], RunState]:
    """What each agent of a walk was given, and the state after it."""
    seen: dict[str, Carried] = {}

    class Watching(Stages):
        def perform(self, visit: Visit, state: RunState) -> Outcome:
            seen[visit.node_id] = carried_into(self.graph, state, visit)
            return super().perform(visit, state)

    stages = Watching(graph, script)
    stages.run(state)
    assert stages.state is not None
    return seen, stages.state


def test_stages_of_a_thread_go_on_with_its_session() -> None:
    """Spec 5.4: the same key, the same session; another key, a new one. A stage that names no session leaves the old one."""
    script = {"a": [with_session("s1")], "b": [with_session("s2")], "c": [with_session("r1")], "d": [success()]}
    seen, state = given_in(THREADED, script)

    assert [(seen[n].thread, seen[n].session) for n in "abcd"] == [
        ("impl", ""),
        ("impl", "s1"),
        ("review", ""),
        ("impl", "s2"),
    ]
    assert state.sessions == {"impl": "s2", "review": "r1"}


def saved_after(*node_ids: str) -> RunState:
    """The state after these nodes of the threaded pipeline, each agent with a session."""
    state = initial_state(THREADED, run_id="r", inputs={})
    for node_id in node_ids:
        step = next_step(THREADED, state)
        assert isinstance(step, Visit)
        assert step.node_id == node_id
        state = apply_outcome(THREADED, enter(state, step), step, with_session(f"of-{node_id}"))
    return state


def test_only_an_agents_stage_is_remembered() -> None:
    """Kilroy clears ``last_fidelity`` after any other stage."""
    assert (saved_after("start", "a").last_fidelity, saved_after("start", "a").last_thread_key) == ("full", "impl")
    assert (saved_after("start", "a", "t").last_fidelity, saved_after("start", "a", "t").last_thread_key) == ("", "")


def test_after_a_resume_full_is_summary_high_once() -> None:
    """Spec 5.3, Kilroy: the next agent after one of full fidelity; a tool in between does not use it up. Later stages of the
    thread go on with the session that this agent began."""
    state, _ = resumed_state(THREADED, saved_after("start", "a"), lambda node_id: 0)
    assert state.degrade_fidelity
    seen, after = given_in(THREADED, {"b": [with_session("anew")], "c": [with_session("r1")]}, state)

    assert seen["b"] == Carried(Fidelity.SUMMARY_HIGH, "impl")
    assert seen["c"] == Carried(Fidelity.FULL, "review")
    assert seen["d"] == Carried(Fidelity.FULL, "impl", "anew")
    assert not after.degrade_fidelity


def test_after_a_resume_behind_another_stage_the_session_goes_on() -> None:
    """The last stage was no agent's: nothing was cut off, and the checkpoint has the session."""
    state, _ = resumed_state(THREADED, saved_after("start", "a", "t"), lambda node_id: 0)
    seen, _ = given_in(THREADED, {}, state)
    assert seen["b"] == Carried(Fidelity.FULL, "impl", "of-a")


def test_an_interrupted_stage_keeps_what_its_edge_says() -> None:
    """It is visited again over the same edge, not by a jump from nowhere."""
    graph = graph_of([node("a"), node("b")], [edge("start", "a"), edge("a", "b", fidelity="truncate"), edge("b", "exit")])
    saved = apply_outcome(graph, initial_state(graph, run_id="r", inputs={}), Visit("start", 1), success())
    saved = apply_outcome(graph, saved, Visit("a", 1, 0), success())
    state, _ = resumed_state(graph, saved, lambda node_id: 1 if node_id == "b" else 0)
    step = next_step(graph, state)
    assert isinstance(step, Visit)
    assert carried_into(graph, enter(state, step), step).fidelity == "truncate"
    assert enter(state, step).jump_edge is None
