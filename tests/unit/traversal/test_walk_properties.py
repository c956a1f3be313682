"""What holds for every graph: walks end, and they depend on nothing but graph and state."""

from __future__ import annotations

import random
from dataclasses import dataclass, fields, replace

from hypothesis import given, settings
from hypothesis import strategies as st
from scripted_walk import Stages, edge, graph_of, node

from kilroy_engine.graph.dot.parse import parse_dot
from kilroy_engine.graph.model import Edge, Graph, Node
from kilroy_engine.graph.render import to_dot
from kilroy_engine.traversal.breakers import DEFAULT_VISIT_LIMIT
from kilroy_engine.traversal.fold import apply_outcome, enter, initial_state
from kilroy_engine.traversal.outcome import Outcome
from kilroy_engine.traversal.restarts import restarted
from kilroy_engine.traversal.state import Finish, Restart
from kilroy_engine.traversal.walk import next_step

IDS = ("a", "b", "c", "d", "E")
ROUNDS = 4**4
"""More than nested loops of four iterations come to."""
SHAPES = ("trapezium", "invtrapezium", "box", "parallelogram", "diamond", "hexagon", "tripleoctagon", "component")
CONDITIONS = ("", "", "", "outcome=success", "outcome=fail", "outcome!=fail", "context.k=1", "preferred_label=Go")

targets = st.sampled_from((*IDS, "exit", "nowhere"))
flags = st.sampled_from(("true", "false"))
nodes = st.fixed_dictionaries(
    {"shape": st.sampled_from(SHAPES)},
    optional={
        "goal_gate": flags,
        "allow_partial": flags,
        "retry_target": targets,
        "max_retries": st.integers(0, 2),
        "max_node_visits": st.integers(1, 9),
        "loop_id": st.sampled_from(("m", "n")),
        "loop_count": st.integers(0, 4),
        "loop_max": st.integers(0, 4),
        "loop_while_outcome": st.just("fail"),
    },
)
edges = st.builds(
    edge,
    source=st.sampled_from(IDS),
    target=st.sampled_from((*IDS, "exit")),
    condition=st.sampled_from(CONDITIONS),
    weight=st.integers(0, 2),
    label=st.sampled_from(("", "[G] Go", "Stay")),
    loop_restart=st.sampled_from(("", "", "true")),
)
outcomes = st.builds(
    Outcome,
    status=st.sampled_from(("success", "partial_success", "retry", "fail", "skipped", "approved")),
    preferred_label=st.sampled_from(("", "go", "stay")),
    suggested_next_ids=st.lists(st.sampled_from((*IDS, "exit")), max_size=1).map(tuple),
    failure_reason=st.sampled_from(("", "exit status 1", "connection reset", "max tokens")),
    context_updates=st.fixed_dictionaries(
        {}, optional={"k": st.integers(0, 1), "parallel.join_node": st.sampled_from(IDS), "tool.output": st.text(max_size=3)}
    ),
)
scripts = st.fixed_dictionaries({n: st.lists(outcomes, min_size=1, max_size=4) for n in IDS})


@dataclass(frozen=True, repr=False)
class Case:
    """A pipeline and what its stages answer. Printed as DOT, so that the report of a failure has room for the failure."""

    graph: Graph
    script: dict[str, list[Outcome]]

    def __repr__(self) -> str:
        answers = {n: [_facts(outcome) for outcome in plays] for n, plays in self.script.items()}
        return f"{to_dot(self.graph)}{answers}"


def _facts(outcome: Outcome) -> dict[str, object]:
    return {field.name: told for field in fields(outcome) if (told := getattr(outcome, field.name))}


@st.composite
def cases(draw: st.DrawFn) -> Case:
    made = [node(n, **draw(nodes)) for n in IDS]
    links = [edge("start", "a"), *draw(st.lists(edges, max_size=12))]
    graph = graph_of(made, links, **draw(st.fixed_dictionaries({}, optional={"retry_target": targets})))
    return Case(graph, draw(scripts))


def shuffled(graph: Graph, seed: int) -> Graph:
    """The same pipeline with nodes and edges declared in another order; edges keep the numbers that tell twins apart."""
    chance = random.Random(seed)
    order: list[Node] = list(graph.nodes.values())
    links: list[Edge] = list(graph.edges)
    chance.shuffle(order)
    chance.shuffle(links)
    return replace(graph, nodes={n.id: n for n in order}, edges=tuple(links))


@given(case=cases())
@settings(max_examples=150)
def test_every_walk_ends(case: Case) -> None:
    """Whatever the graph and whatever the stages answer: breakers bound the visits, and a failed end has a reason.

    Finished iterations of loops that a number ends come on top of a node's 49 visits; four iterations each do not get far.
    """
    stages = Stages(case.graph, case.script)
    finish = stages.run()
    assert max(stages.visits.count(n) for n in stages.visits) < DEFAULT_VISIT_LIMIT * ROUNDS
    assert bool(finish.reason) == (finish.status == "fail")
    assert "\n" not in finish.reason
    if stages.visits[-1] == "exit":
        assert finish.status == "success"
        assert stages.visits.count("exit") == 1


@given(case=cases(), seed=st.integers(0, 99))
@settings(max_examples=75)
def test_routing_does_not_depend_on_the_order_of_declaration(case: Case, seed: int) -> None:
    """Nodes and edges in another order, same walk. Labels and suggestions go by order, so stages express no wish here."""
    plain = {n: [o.with_updates(preferred_label="", suggested_next_ids=()) for o in plays] for n, plays in case.script.items()}
    first, second = Stages(case.graph, plain), Stages(shuffled(case.graph, seed), plain)
    assert first.run().reason == second.run().reason
    assert first.visits == second.visits


@given(case=cases())
@settings(max_examples=75)
def test_a_pipeline_that_was_printed_and_read_again_is_walked_in_the_same_way(case: Case) -> None:
    """Canonical DOT keeps all that a walk goes by: the same events and the same end."""
    first, second = Stages(case.graph, case.script), Stages(parse_dot(to_dot(case.graph)), case.script)
    assert first.run() == second.run()
    assert first.events == second.events


@given(case=cases())
@settings(max_examples=75)
def test_the_next_step_depends_on_graph_and_state_alone(case: Case) -> None:
    """Asked twice, it answers the same and leaves the state as it was; no successful walk passes an unsatisfied gate."""
    graph, stages = case.graph, Stages(case.graph, case.script)
    state = initial_state(graph, run_id="RUN", inputs={})
    while True:
        before = repr(state)
        step = next_step(graph, state)
        assert next_step(graph, state) == step
        assert repr(state) == before
        if isinstance(step, Restart):
            assert step.carried.restart_count == state.restart_count + 1
            state = restarted(initial_state(graph, run_id="RUN", inputs={}), step)
            continue
        if isinstance(step, Finish):
            break
        entered = enter(state, step)
        outcome = stages.perform(step, entered)
        state = apply_outcome(graph, entered, step, outcome)
    if step.status == "success":
        gates = [n for n in state.outcomes if graph.nodes[n].goal_gate]
        assert all(state.outcomes[n].satisfies_gate for n in gates)
