"""Tags of stages: concurrency limits are put on them, so whoever waits for others has none."""

from __future__ import annotations

import pytest
from prefect import tags
from prefect.context import TagsContext

from kilroy_engine.graph.dot.parse import parse_dot
from kilroy_engine.orchestration.tasks.tags import limits_on, stage_tags, tags_set_aside


def node(attributes: str) -> frozenset[str]:
    graph = parse_dot(f'digraph g {{ n [{attributes}, llm_model="opus"] }}')
    return stage_tags(graph.nodes["n"], {"nightly"})


@pytest.mark.parametrize(
    "attributes",
    [
        *("shape=component", "shape=house", "shape=folder", 'type="prefect.task"', 'type="prefect.flow"'),
        *("shape=Mdiamond", "shape=Msquare", "shape=diamond", "shape=hexagon", "shape=trapezium", "shape=invtrapezium"),
    ],
)
def test_whoever_waits_for_others_or_does_nothing_has_no_tag(attributes: str) -> None:
    """Fan-out, manager, child pipeline and call hold task runs of others; a marker or a gate does no work. No tag of the
    caller's either: a limit on that would be as fatal."""
    assert node(attributes) == frozenset()


@pytest.mark.parametrize(
    ("attributes", "own"),
    [
        ('shape=box, prompt="look"', {"handler:codergen", "model:opus"}),
        ("shape=parallelogram", {"handler:tool"}),
        ("shape=tripleoctagon", {"handler:parallel.fan_in"}),
        ('shape=tripleoctagon, prompt="which is best?"', {"handler:parallel.fan_in", "model:opus"}),
        ('type="acme.deploy"', {"handler:acme.deploy", "model:opus"}),
    ],
)
def test_whoever_works_has_its_handlers_tag_and_that_of_the_model_it_calls(attributes: str, own: set[str]) -> None:
    """A stylesheet gives a model to every node; only those that call one have its tag. Of a plug-in nobody knows, so it has."""
    assert node(attributes) == {*own, "nightly"}


def test_the_callers_tags_are_off_inside_and_on_again_afterwards() -> None:
    """Prefect gives a task run every tag around it, unless they are set aside."""
    with tags("nightly", "team"):
        with tags_set_aside() as around:
            assert around == {"nightly", "team"}
            assert TagsContext.get().current_tags == set()
        assert TagsContext.get().current_tags == {"nightly", "team"}


@pytest.mark.parametrize(
    ("node", "provider", "expected"),
    [
        ("a [shape=box, prompt=x]", "anthropic", {"tag:t", "kilroy-provider-anthropic"}),
        ("a [shape=box, prompt=x]", "", {"tag:t"}),
        ("a [shape=parallelogram, tool_command=true]", "anthropic", {"tag:t"}),
        ("a [shape=tripleoctagon]", "anthropic", {"tag:t"}),
        ("a [shape=tripleoctagon, prompt=x]", "anthropic", {"tag:t", "kilroy-provider-anthropic"}),
    ],
)
def test_a_stage_that_calls_a_model_falls_under_the_limit_of_its_provider(node: str, provider: str, expected: set[str]) -> None:
    """Beside the limits on its tags; one that calls no model, or whose provider nobody knows, under those alone."""
    graph = parse_dot(f"digraph g {{ {node} }}")
    assert limits_on(graph.nodes["a"], {"t"}, provider) == expected
