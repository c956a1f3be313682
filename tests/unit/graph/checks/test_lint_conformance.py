"""The rules of Spec 7.2 against the cases of ``tests/data/conformance/lint.yaml``."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from kilroy_engine.graph.checks.validation import validate
from kilroy_engine.graph.dot.parse import parse_dot
from kilroy_engine.graph.transforms import prepare

LINT = yaml.safe_load((Path(__file__).parents[3] / "data/conformance/lint.yaml").read_text(encoding="utf-8"))
RULES = LINT["rules"]
OURS = {"reachability": "warning"}
"""Severities that the engine decided otherwise for every case of a rule; ``terminal_node`` and two others differ by case."""


def _severities(text: str, rule: str) -> list[str]:
    found = validate(prepare(parse_dot(text)))
    return [d.severity.value.lower() for d in found if d.rule == rule]


def _pipeline(work: str = "a [prompt=p]", graph: str = "", edge: str = "") -> str:
    return f"digraph G {{ {graph} s [shape=Mdiamond] {work} x [shape=Msquare] s -> a -> x [{edge}] }}"


def _text_of(case: str) -> str:
    """The pipeline that a case stands for: itself, or what its words describe."""
    match case.split():
        case ["digraph", *_]:
            return case
        case ["node", attribute]:
            return _pipeline(f"a [prompt=p, {attribute}]")
        case ["edge", attribute]:
            return _pipeline(edge=attribute)
        case ["graph", "retry_target", *_]:
            return _pipeline("a [prompt=p, goal_gate=true]", graph="retry_target=a")
        case ["graph", attribute]:
            return _pipeline(graph=attribute)
        case ["goal_gate=true", *_]:
            return _pipeline("a [prompt=p, goal_gate=true]")
        case ["goal_gate=false"]:
            return _pipeline("a [prompt=p, goal_gate=false]")
        case ["prompt", "set"]:
            return _pipeline("a [prompt=p]")
        case ["label", "set"]:
            return _pipeline("a [label=L]")
        case ["shape=diamond"]:
            return _pipeline("a [shape=diamond]")
        case _:
            raise AssertionError(f"the case {case!r} is not understood")


def _with(rule: str, case: str) -> str:
    """A case of ``silent``, which some rules shorten to a value or an attribute."""
    match rule:
        case "fidelity_valid":
            return _pipeline(f'a [prompt=p, fidelity="{case}"]')
        case "goal_gate_has_retry" if case.startswith("node "):
            return _pipeline(f"a [prompt=p, goal_gate=true, {case.split()[1]}=s]")
        case _:
            return _text_of(case)


FIRING = [(rule, case) for rule, cases in RULES.items() for case in cases.get("fire", [])]
SILENT = [(rule, case) for rule, cases in RULES.items() for case in cases.get("silent", [])]


@pytest.mark.parametrize(("rule", "case"), FIRING)
def test_a_rule_fires_with_its_severity(rule: str, case: str):
    """Spec 7.2, with the engine's own severity where it decided so."""
    severities = _severities(_text_of(case), rule)
    several_exits = rule == "terminal_node" and case.count("Msquare") > 1
    no_near_id = rule == "edge_target_exists"
    wanted = "warning" if several_exits or no_near_id else OURS.get(rule, RULES[rule]["severity"])
    assert severities == [wanted]


@pytest.mark.parametrize(("rule", "case"), SILENT)
def test_a_rule_stays_silent_on_a_near_miss(rule: str, case: str):
    """What looks similar and is right."""
    assert _severities(_with(rule, case), rule) == []


@pytest.mark.parametrize("condition", RULES["condition_syntax"]["fire_conditions"])
def test_a_bad_condition_is_an_error(condition: str):
    """Spec 7.2: condition_syntax."""
    assert _severities(_pipeline(edge=f'condition="{condition}"'), "condition_syntax") == ["error", "error"]


@pytest.mark.parametrize("condition", RULES["condition_syntax"]["silent_conditions"])
def test_a_good_condition_is_none(condition: str):
    """Near misses of condition_syntax."""
    assert _severities(_pipeline(edge=f'condition="{condition}"'), "condition_syntax") == []


@pytest.mark.parametrize("sheet", RULES["stylesheet_syntax"]["fire_sheets"])
def test_a_bad_stylesheet_is_an_error_and_an_unknown_property_a_warning(sheet: str):
    """Spec 7.2: stylesheet_syntax; real sheets use properties of other engines, which are ignored."""
    text = _pipeline(graph=f'model_stylesheet="{sheet}"')
    if "bad_prop" in sheet:
        assert _severities(text, "stylesheet_syntax") == []
        assert _severities(text, "stylesheet_property") == ["warning"]
    else:
        assert _severities(text, "stylesheet_syntax") == ["error"]


@pytest.mark.parametrize("type_name", RULES["type_known"]["silent_types"])
def test_the_types_of_the_specification_are_known(type_name: str):
    """Spec 2.8."""
    assert _severities(_pipeline(f'a [prompt=p, type="{type_name}"]'), "type_known") == []


def test_the_unreachable_node_is_called_so():
    """AttractorBench looks for the word."""
    graph = parse_dot(RULES["reachability"]["fire"][0])
    messages = [d.message for d in validate(graph) if d.rule == "reachability"]
    assert messages == ["node 'orphan' is unreachable from the start"]
