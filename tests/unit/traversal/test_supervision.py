"""What a manager makes of its child pipeline in each cycle (Spec 4.11, Kilroy's messages)."""

from __future__ import annotations

import pytest

from kilroy_engine.graph.conditions import parse_condition
from kilroy_engine.graph.dot.parse import parse_dot
from kilroy_engine.traversal.outcome import Json, Status
from kilroy_engine.traversal.supervision import ChildFacts, ChildStatus, Supervision, inherited_context, judge

RUNNING = ChildFacts(ChildStatus.RUNNING, current_node="build", completed_count=3, failed_count=1, failure_reason="exit 1")


def plan(attributes: str = "") -> Supervision:
    """The plan of a manager with these attributes."""
    graph = parse_dot(f"digraph g {{ boss [shape=house, {attributes}] }}")
    return Supervision.of(graph.nodes["boss"])


def test_the_defaults_are_the_specifications() -> None:
    """45 s between two looks, 1000 of them, no stop condition, no steering."""
    assert plan() == Supervision(45.0, 1000, parse_condition(""), steers=False)


def test_a_plan_is_what_the_attributes_write() -> None:
    """Durations in our units, the condition parsed, ``steer`` anywhere among the actions; what does not fit is not written."""
    written = plan(
        'manager.poll_interval=250ms, manager.max_cycles=3, manager.actions="observe, steer,wait", '
        'manager.stop_condition="stack.child.current_node=ship"'
    )
    assert written == Supervision(0.25, 3, parse_condition("stack.child.current_node=ship"), steers=True)
    assert plan("manager.max_cycles=0, manager.poll_interval=soon") == plan()


def test_a_child_at_work_is_left_at_work() -> None:
    """Until the last cycle, however it stands; a child that has not begun is waited for too."""
    for cycle in (1, 2, 3):
        assert judge(Supervision(max_cycles=3), RUNNING, cycle, {}) is None
        assert judge(Supervision(max_cycles=3), ChildFacts(), cycle, {}) is None


def test_the_cycles_come_to_an_end() -> None:
    """Kilroy: after the last cycle the manager fails, and says how many there were."""
    outcome = judge(Supervision(max_cycles=3), RUNNING, 4, {})
    assert outcome is not None
    assert (outcome.status, outcome.failure_reason) == (Status.FAIL, "manager loop max cycles exceeded (3)")


@pytest.mark.parametrize("cycle", [1, 3, 4])
def test_the_end_of_the_child_is_the_managers_end(cycle: int) -> None:
    """Success for a success, else a failure with the child's reason; also where the cycles are used up meanwhile."""
    condition = parse_condition("stack.child.status=failed")
    limited = Supervision(max_cycles=3, stop_condition=condition)

    done = judge(limited, ChildFacts(ChildStatus.COMPLETED), cycle, {})
    failed = judge(limited, ChildFacts(ChildStatus.FAILED, failure_reason="no route"), cycle, {})
    canceled = judge(limited, ChildFacts(ChildStatus.CANCELED, failure_reason="canceled: by kilroy stop"), cycle, {})

    assert done is not None
    assert done.status == Status.SUCCESS
    assert failed is not None
    assert (failed.status, failed.failure_reason) == (Status.FAIL, "child pipeline failed: no route")
    assert canceled is not None
    assert (canceled.status, canceled.failure_reason) == (Status.FAIL, "child pipeline failed: canceled: by kilroy stop")


@pytest.mark.parametrize(
    ("condition", "context", "holds"),
    [
        ("stack.child.status=running", {}, True),
        ("context.stack.child.status=running", {}, True),
        ("stack.child.outcome=success", {}, False),
        ("stack.child.current_node=build && stack.child.completed_count=3", {}, True),
        ("stack.child.failed_count!=0", {}, True),
        ("stack.child.failure_reason=exit 1", {}, True),
        ("enough", {"enough": "yes"}, True),
        ("enough", {}, False),
        ("outcome=success", {}, True),
        ("stack.child.status=failed", {"stack.child.status": "failed"}, False),
    ],
)
def test_a_stop_condition_sees_the_child_and_the_run(condition: str, context: dict[str, Json], holds: bool) -> None:
    """Spec 4.11, Kilroy: edge conditions over the context with the facts in it; ``outcome`` is success. Facts of an earlier
    child in the context do not count."""
    outcome = judge(Supervision(stop_condition=parse_condition(condition)), RUNNING, 1, context)
    assert (outcome is not None) == holds
    assert outcome is None or outcome.status == Status.SUCCESS


def test_a_child_knows_what_stages_have_set_and_not_where_the_run_is() -> None:
    """Kilroy clones the context; the walk's own keys, the graph's and another child's would be wrong in it."""
    context: dict[str, Json] = {
        "plan.size": 3,
        "inputs": {"version": "2"},
        "input.version": "2",
        "tool.output": "ok",
        "human.gate.selected": "ship",
        "graph.goal": "the parent's",
        "current_node": "boss",
        "completed_nodes": ["start"],
        "outcome": "success",
        "failure_reason": "",
        "internal.retry_count.boss": 1,
        "parallel.results": [],
        "stack.child.status": "completed",
    }
    inherited = inherited_context(context)
    assert set(inherited) == {"plan.size", "inputs", "input.version", "tool.output", "human.gate.selected"}
    assert inherited["inputs"] is not context["inputs"]
