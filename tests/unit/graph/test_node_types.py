"""The table of node types, held against the specification and Kilroy."""

from __future__ import annotations

import pytest

from kilroy_engine.graph.dot.parse import parse_dot
from kilroy_engine.graph.node_types import CALL_TYPES, NODE_TYPES, SHAPE_TO_TYPE, TYPE_BY_OTHER_NAME, Work, runs_once

# Spec 2.8.
SPECIFIED = {
    "Mdiamond": "start",
    "Msquare": "exit",
    "box": "codergen",
    "hexagon": "wait.human",
    "diamond": "conditional",
    "component": "parallel",
    "tripleoctagon": "parallel.fan_in",
    "parallelogram": "tool",
    "house": "stack.manager_loop",
}
# Kilroy's further shapes, then fabro's and amplifier's.
FURTHER = {
    "circle": "start",
    "doublecircle": "exit",
    "trapezium": "loop.begin",
    "invtrapezium": "loop.end",
    "pentagon": "concurrent.split",
    "cylinder": "concurrent.join",
    "tab": "codergen",
    "folder": "pipeline",
}
# Kilroy executes these once, whatever their retries say.
KILROY_SINGLE_EXECUTION = {"start", "exit", "conditional", "loop.begin", "loop.end"}


def test_shapes_have_the_types_of_the_specification_and_its_implementations() -> None:
    """No shape more, none less."""
    assert SHAPE_TO_TYPE == SPECIFIED | FURTHER


def test_types_are_those_of_the_shapes_and_the_calls_of_prefect() -> None:
    """The two calls are ours; no shape stands for them."""
    assert set(NODE_TYPES) == {*SPECIFIED.values(), *FURTHER.values(), "prefect.task", "prefect.flow"}
    assert {"prefect.task", "prefect.flow"} == CALL_TYPES


def test_markers_run_once() -> None:
    """Kilroy's single execution."""
    assert {name for name in NODE_TYPES if runs_once(name)} == KILROY_SINGLE_EXECUTION
    assert not runs_once("acme.deploy")


def test_only_concurrent_regions_are_refused() -> None:
    """The conformance page says why."""
    assert {row.name for row in NODE_TYPES.values() if not row.served} == {"concurrent.split", "concurrent.join"}


def test_what_runs_once_does_no_work() -> None:
    """A failure of real work may pass; a type that works and is never tried again would be a slip in the table."""
    assert all(row.work is Work.NONE for row in NODE_TYPES.values() if row.runs_once)


@pytest.mark.parametrize("name", sorted({name for row in NODE_TYPES.values() for name in (*row.shapes, *row.other_names)}))
def test_a_shape_or_another_name_means_one_type(name: str) -> None:
    """Two rows that claim the same word would depend on their order."""
    claims = [row.name for row in NODE_TYPES.values() if name in (*row.shapes, *row.other_names)]
    assert len(claims) == 1


@pytest.mark.parametrize(("written", "type_name"), [*TYPE_BY_OTHER_NAME.items(), *((name, name) for name in NODE_TYPES)])
def test_a_type_is_read_by_any_of_its_names(written: str, type_name: str) -> None:
    """Whatever the node's shape."""
    graph = parse_dot(f'digraph g {{ a [shape=hexagon, type="{written}"] }}')
    assert graph.nodes["a"].type == type_name
