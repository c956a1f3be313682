"""The check as a whole: order, excerpts, refusal, what it takes to load."""

from __future__ import annotations

import pickle
import subprocess
import sys
from collections.abc import Iterator

import pytest

from kilroy_engine.errors import InvalidPipeline
from kilroy_engine.graph.checks.subject import Subject, info
from kilroy_engine.graph.checks.validation import BUILT_IN_RULES, errors_of, require_valid, validate
from kilroy_engine.graph.diagnostics import Diagnostic, Severity
from kilroy_engine.graph.dot.parse import parse_dot
from kilroy_engine.graph.node_types import BUILT_IN_TYPES

GOOD = """digraph Good {
    start [shape=Mdiamond]
    exit  [shape=Msquare]
    plan  [prompt="Plan"]
    start -> plan
    plan -> exit [condition="outcome=success"]
}"""
BAD = """digraph Bad {
    start [shape=Mdiamond]
    plan  [prompt="Plan", fidelity=none]
    build [shape=parallelogram]
    start -> plan -> build
}"""


def test_a_good_pipeline_has_nothing_to_say():
    """No rule speaks without cause."""
    assert validate(parse_dot(GOOD)) == ()
    assert require_valid(parse_dot(GOOD)) == ()


def test_diagnostics_come_in_the_order_of_the_file():
    """What concerns the whole file first, then line by line."""
    found = [(d.line, d.column, d.severity.value, d.rule) for d in validate(parse_dot(BAD))]
    assert found == [
        (0, 0, "ERROR", "terminal_node"),
        (3, 27, "WARNING", "fidelity_valid"),
        (4, 5, "ERROR", "tool_command_required"),
        (4, 5, "WARNING", "dead_end"),
    ]


def test_a_diagnostic_shows_its_line_with_a_caret():
    """The excerpt that the command line prints."""
    found = {d.rule: d for d in validate(parse_dot(BAD))}
    assert found["fidelity_valid"].excerpt == (
        '   3 |     plan  [prompt="Plan", fidelity=none]\n     |                           ^'
    )
    assert found["terminal_node"].excerpt == ""


def test_a_pipeline_with_errors_is_refused_with_everything_that_was_found():
    """Kilroy's sentence, all diagnostics as a fact; it travels between processes."""
    with pytest.raises(InvalidPipeline) as refused:
        require_valid(parse_dot(BAD))
    error = pickle.loads(pickle.dumps(refused.value))
    assert str(error) == (
        "validation failed: terminal_node: the pipeline has no exit node; "
        "tool_command_required: the tool node 'build' has no tool_command"
    )
    assert [d.rule for d in error.diagnostics] == ["terminal_node", "fidelity_valid", "tool_command_required", "dead_end"]
    assert len(errors_of(error.diagnostics)) == 2


def test_warnings_do_not_refuse():
    """Only errors stop a run (Spec 7.1)."""
    graph = parse_dot(GOOD.replace("Plan", "@plan.md"))
    assert [d.severity for d in require_valid(graph)] == [Severity.WARNING]


def test_rules_of_others_run_after_the_built_in_ones():
    """Spec 7.4."""

    def no_poetry(subject: Subject) -> Iterator[Diagnostic]:
        yield from (info("no_poetry").on_node(node, "plain words") for node in subject.nodes_of("codergen"))

    assert [d.rule for d in validate(parse_dot(GOOD), extra_rules=[no_poetry])] == ["no_poetry"]


def test_handlers_of_others_are_known_types():
    """A type that somebody serves is no slip, and the rules for its shape do not apply."""
    text = GOOD.replace('prompt="Plan"', 'type="acme.deploy"')
    assert {d.rule for d in validate(parse_dot(text))} == {"type_known", "prompt_on_llm_nodes"}
    assert validate(parse_dot(text), known_types=BUILT_IN_TYPES | {"acme.deploy"}) == ()


def test_an_unknown_type_counts_as_its_shape():
    """Spec 4.2: the shape decides, for the rules as for the run."""
    graph = parse_dot(GOOD.replace('prompt="Plan"', "shape=parallelogram, type=tol"))
    assert {"type_known", "tool_command_required"} == {d.rule for d in validate(graph)}


def test_a_provider_is_required_only_without_a_default_agent():
    """Kilroy's rule, unless the run names who does an agent's work."""
    graph = parse_dot(GOOD)
    assert [(d.rule, d.severity, d.node) for d in validate(graph, default_agent=False)] == [
        ("llm_provider_required", Severity.ERROR, "plan")
    ]
    styled = parse_dot(GOOD.replace('prompt="Plan"', 'prompt="Plan", llm_provider=anthropic'))
    assert validate(styled, default_agent=False) == ()


def test_a_type_of_its_own_does_not_unmake_a_marker():
    """Spec 3.2: the shape marks start and exit, whoever serves the node."""
    text = GOOD.replace("[shape=Mdiamond]", "[shape=Mdiamond, type=acme.begin]")
    for known in (BUILT_IN_TYPES, BUILT_IN_TYPES | {"acme.begin"}):
        graph = parse_dot(text)
        assert graph.start == graph.nodes["start"]
        assert errors_of(validate(graph, known_types=known)) == ()


def test_human_gates_are_valid():
    """Whether a run can answer them is the run's question."""
    text = GOOD.replace('prompt="Plan"', 'shape=hexagon, label="Ship it?"')
    assert validate(parse_dot(text)) == ()


def test_every_rule_explains_itself():
    """Rules are documented where they are, and no two share a name."""
    assert all(rule.__doc__ for rule in BUILT_IN_RULES)  # type: ignore[attr-defined]
    assert len({rule.__name__ for rule in BUILT_IN_RULES}) == len(BUILT_IN_RULES)  # type: ignore[attr-defined]


def test_loading_the_check_loads_neither_prefect_nor_the_parser_generator():
    """``kilroy validate`` and every module that names a graph start quickly."""
    code = (
        "import sys, time; before = time.process_time();"
        "import kilroy_engine.graph.checks.validation, kilroy_engine.graph.dot.parse;"
        "print(time.process_time() - before, 'prefect' in sys.modules, 'lark' in sys.modules)"
    )
    runs = [subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout for _ in range(3)]
    assert all(run.split()[1:] == ["False", "False"] for run in runs)
    fastest_s = min(float(run.split()[0]) for run in runs)
    print(f"loading takes {fastest_s * 1000:.0f} ms of CPU")
    assert fastest_s < 0.3
