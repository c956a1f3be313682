"""Model stylesheets: the cases of ``stylesheet.yaml``, and the order in which defaults apply."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from kilroy_engine.errors import StylesheetSyntaxError
from kilroy_engine.graph.dot.parse import parse_dot
from kilroy_engine.graph.stylesheet import apply_stylesheet, parse_stylesheet

CASES = yaml.safe_load((Path(__file__).parents[2] / "data/conformance/stylesheet.yaml").read_text(encoding="utf-8"))
LINT = yaml.safe_load((Path(__file__).parents[2] / "data/conformance/lint.yaml").read_text(encoding="utf-8"))
ALIASES = {"model": "llm_model", "provider": "llm_provider"}


@pytest.mark.parametrize("case", CASES["apply"], ids=lambda case: case["name"])
def test_nodes_get_what_the_cases_say(case: dict[str, dict[str, dict[str, str]]]):
    """Specificity, then order; what a node says itself stays; aliases are read."""
    lists = {name: " ".join(f'{key}="{value}"' for key, value in written.items()) for name, written in case["nodes"].items()}
    nodes = " ".join(f"{name} [{written}]" for name, written in lists.items())
    sheet = case["sheet"]
    graph = apply_stylesheet(parse_dot(f'digraph G {{ graph [model_stylesheet="{sheet}"] {nodes} }}'))
    for name, wanted in case["want"].items():
        assert {key: graph.nodes[name].text(ALIASES.get(key, key)) for key in wanted} == wanted


@pytest.mark.parametrize("text", CASES["syntax_errors"] + LINT["rules"]["stylesheet_syntax"]["fire_sheets"][:3])
def test_what_is_no_stylesheet_is_refused_at_its_place(text: str):
    """The error has line, column, the line with a caret, and a hint."""
    with pytest.raises(StylesheetSyntaxError) as refused:
        parse_stylesheet(text)
    assert refused.value.line == 1
    assert 1 <= refused.value.column <= len(text) + 1
    assert refused.value.excerpt.endswith("^")
    assert refused.value.hint


@pytest.mark.parametrize("text", [*CASES["accepts"], "", "  ", '* { llm_model: m }\n/* note */ box { llm_model: "m:1"; }'])
def test_what_is_a_stylesheet_is_read(text: str):
    """Names with hyphens, digits and underscores; blank sheets; comments; quoted values."""
    parse_stylesheet(text)


@pytest.mark.parametrize(
    ("text", "line", "column", "message"),
    [
        ("* {\n  llm_model: a\n  llm_provider: b;\n}", 2, 15, "the value of 'llm_model' runs on"),
        ("* { llm_model: a;\n.x { llm_model: b; }", 2, 1, "expected a property such as llm_model, found '.'"),
        (".a, .b { llm_model: x; }", 1, 3, "',' between selectors"),
        (".a { llm_model: ; }", 1, 17, "'llm_model' has no value"),
        (".a { llm_model = x; }", 1, 16, "expected ':' after 'llm_model', found '='"),
        ("* { llm_model: m; ", 1, 19, "the rule that begins at line 1 is never closed"),
    ],
)
def test_a_mistake_in_a_stylesheet_is_named(text: str, line: int, column: int, message: str):
    """Words and place for each common mistake."""
    with pytest.raises(StylesheetSyntaxError) as refused:
        parse_stylesheet(text)
    assert (refused.value.line, refused.value.column, refused.value.message) == (line, column, message)


def test_defaults_of_the_graph_come_last():
    """Spec 8.5: node, stylesheet, graph. An attribute that is written empty stays empty."""
    graph = apply_stylesheet(
        parse_dot("""digraph G {
            graph [llm_model="of-graph" llm_provider="of-graph" model_stylesheet=".c { llm_model: of-sheet; }"]
            own [llm_model="of-node" class=c] styled [class=c] plain empty [llm_model=""]
        }""")
    )
    assert {node.id: node.text("llm_model") for node in graph.nodes.values()} == {
        "own": "of-node",
        "styled": "of-sheet",
        "plain": "of-graph",
        "empty": "",
    }
    assert {node.text("llm_provider") for node in graph.nodes.values()} == {"of-graph"}


def test_classes_of_subgraphs_are_selected():
    """Spec 2.10: the label of a subgraph is a class."""
    graph = parse_dot('digraph G { model_stylesheet=".loop-a { llm_model: m; }" subgraph s { label="Loop A" inside } outside }')
    styled = apply_stylesheet(graph)
    assert (styled.nodes["inside"].text("llm_model"), styled.nodes["outside"].text("llm_model")) == ("m", "")


def test_a_stylesheet_that_does_not_parse_changes_nothing():
    """Validation reports it with its place; the graph stays as it is for the other rules."""
    graph = parse_dot('digraph G { model_stylesheet="oops" llm_model=m a }')
    assert apply_stylesheet(graph) == graph
