"""Nodes that call a Prefect task or flow: what they may name, and what they hand over."""

from __future__ import annotations

import pytest

from kilroy_engine.graph.callees import DeploymentCallee, ObjectCallee, read_callee
from kilroy_engine.graph.checks.validation import validate
from kilroy_engine.graph.diagnostics import Diagnostic
from kilroy_engine.graph.dot.parse import parse_dot
from kilroy_engine.graph.transforms import prepare


def _found(node: str, **inputs: str) -> list[Diagnostic]:
    """What the rules of calls say about node ``a``, whose attributes begin at line 3, column 4."""
    text = f'digraph g {{ s [shape=Mdiamond] x [shape=Msquare]\n s -> a a -> x [condition="outcome=success"]\na [{node}] }}'
    diagnostics = validate(prepare(parse_dot(text), inputs=inputs))
    return [d for d in diagnostics if d.rule in {"prefect_ref", "prefect_parameter", "variable_known", "attribute_known"}]


@pytest.mark.parametrize(
    ("text", "reference"),
    [
        ("etl:load", ObjectCallee("etl", "load")),
        (" my_company.etl.daily:Loader.load ", ObjectCallee("my_company.etl.daily", "Loader.load")),
        ("etl/nightly", DeploymentCallee("etl", "nightly")),
        ("daily load/every night", DeploymentCallee("daily load", "every night")),
        ("flows/etl.py:load", None),
        ("etl.load", None),
        ("etl:", None),
        (":load", None),
        ("a/b/c", None),
        ("/nightly", None),
        ("2etl:load", None),
        ("", None),
    ],
)
def test_a_reference_is_an_object_or_a_deployment(text: str, reference: object) -> None:
    """``package.module:name``, or Prefect's ``flow-name/deployment-name``; a path is neither."""
    assert read_callee(text) == reference


@pytest.mark.parametrize(
    ("node", "column", "message", "fix"),
    [
        ('type="prefect.task"', 1, "names no task to call", 'write ref="package.module:task_name"'),
        ('type="prefect.flow"', 1, "names no flow to call", 'or ref="flow-name/deployment-name"'),
        ('type="prefect.task", ref="etl"', 25, "ref='etl' names no task", 'write ref="package.module:task_name"'),
        ('type="prefect.task", ref="etl.load"', 25, "names no task", 'put a colon before the name: ref="etl:load"'),
        ('type="prefect.flow", ref="./flows/etl.py:load"', 25, "names no flow", 'ref="flows.etl:load"'),
        ('type="prefect.task", ref="etl/nightly"', 25, "deployments run flows", 'write type="prefect.flow"'),
    ],
)
def test_a_reference_that_names_nothing_is_refused_at_its_place(node: str, column: int, message: str, fix: str) -> None:
    """An error with line, column and the text to write instead."""
    (diagnostic,) = _found(node)

    assert (diagnostic.rule, diagnostic.severity, diagnostic.node) == ("prefect_ref", "ERROR", "a")
    assert (diagnostic.line, diagnostic.column) == (3, column)
    assert message in diagnostic.message
    assert fix in diagnostic.fix


def test_a_parameter_has_the_name_of_one() -> None:
    """``param.a.b`` is no way to fill a structure: that is written as JSON."""
    (diagnostic,) = _found('type="prefect.task", ref="m:t", param.a=1, param.b.c=2')

    assert (diagnostic.rule, diagnostic.severity) == ("prefect_parameter", "ERROR")
    assert "'b.c' is no Python name" in diagnostic.message


def test_parameters_belong_to_the_callee() -> None:
    """Their names are not compared with the engine's attributes: ``param.promptt`` is no slip."""
    assert _found('type="prefect.flow", ref="m:f", param.promptt=1, param.goal="it"') == []


def test_variables_in_arguments_are_replaced() -> None:
    """``$input.<key>`` and ``$goal``, as in prompts; ``$$`` is a dollar, and an unknown one is warned of."""
    text = (
        'digraph g { graph [goal="ship"] '
        'a [type="prefect.task", ref="m:t", param.n="$input.n", param.why="to $goal", param.price="$$5", param.x="$nobody"] '
        'b [label=b, param.n="$input.n"] }'
    )
    graph = prepare(parse_dot(text), inputs={"n": "3"})

    values = {key: attribute.value for key, attribute in graph.nodes["a"].attributes.items() if key.startswith("param.")}
    assert values == {"param.n": "3", "param.why": "to ship", "param.price": "$5", "param.x": "$nobody"}
    assert graph.nodes["b"].text("param.n") == "$input.n"
    assert [finding.rule for finding in graph.findings] == ["variable_known"]
