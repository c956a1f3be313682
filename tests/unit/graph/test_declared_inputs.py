"""Inputs that a pipeline declares, what they take, and what is wrong with a declaration."""

from __future__ import annotations

import pytest

from kilroy_engine.graph.checks.validation import validate
from kilroy_engine.graph.dot.parse import parse_dot
from kilroy_engine.graph.inputs import DeclaredInput, InputType, declared_inputs
from kilroy_engine.graph.transforms import prepare

NO_NAME = "a secret is named and never given: secret:NAME or env:NAME is expected"
SHELL = "start [shape=Mdiamond] done [shape=Msquare] start -> done"


def declared(attributes: str) -> tuple[DeclaredInput, ...]:
    return declared_inputs(parse_dot(f"digraph G {{ graph [{attributes}] {SHELL} }}"))


def found(attributes: str) -> list[tuple[str, str, str]]:
    """Rule, message and fix of what is said about the inputs."""
    graph = prepare(parse_dot(f"digraph G {{ graph [{attributes}] {SHELL} }}"))
    return [(str(d.severity).lower(), d.message, d.fix) for d in validate(graph) if d.rule.startswith("input_")]


def test_a_comma_list_declares_required_texts():
    """Kilroy's graph attribute ``inputs``; a name once, blanks left out."""
    assert declared('inputs="topic, spec.md,, topic"') == (DeclaredInput("topic"), DeclaredInput("spec.md"))
    assert declared("label=x") == ()


def test_facets_say_more_about_an_input():
    """``input.<name>.<facet>``, names with dots included; a default makes an input optional, choices make it a choice."""
    text = (
        'inputs="depth, tone, spec.md, token", input.depth.type=integer, input.depth.default=3, '
        'input.tone.choices="dry, warm", input.spec.md.required=false, "input.spec.md.description"="What to build", '
        "input.token.secret=true"
    )
    assert declared(text) == (
        DeclaredInput("depth", InputType.INTEGER, required=False, default="3"),
        DeclaredInput("tone", InputType.CHOICE, choices=("dry", "warm")),
        DeclaredInput("spec.md", required=False, description="What to build"),
        DeclaredInput("token", secret=True),
    )
    assert found(text) == []


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        (InputType.STRING, " as it is ", " as it is "),
        (InputType.INTEGER, " -3 ", "-3"),
        (InputType.NUMBER, "2.50", "2.50"),
        (InputType.NUMBER, "2", "2"),
        (InputType.BOOLEAN, "Yes", "true"),
        (InputType.BOOLEAN, "off", "false"),
        (InputType.CHOICE, "warm", "warm"),
    ],
)
def test_a_value_that_fits_has_one_spelling(kind: InputType, text: str, value: str):
    """Stages see ``true``, whatever word the person used."""
    assert DeclaredInput("x", kind, choices=("dry", "warm")).read(text) == value


@pytest.mark.parametrize(
    ("kind", "text", "expected"),
    [
        (InputType.INTEGER, "3.5", "a whole number is expected"),
        (InputType.INTEGER, "", "a whole number is expected"),
        (InputType.NUMBER, "many", "a number is expected"),
        (InputType.BOOLEAN, "maybe", "true or false is expected"),
        (InputType.CHOICE, "Warm", "one of dry, warm is expected"),
    ],
)
def test_a_value_that_does_not_fit_is_told_what_is_expected(kind: InputType, text: str, expected: str):
    """And never what it is: it may be a secret's."""
    with pytest.raises(ValueError, match=f"^{expected}$"):
        DeclaredInput("x", kind, choices=("dry", "warm")).read(text)


def test_an_optional_value_may_be_empty():
    """Of any type: a form sends what was left empty."""
    assert DeclaredInput("x", InputType.INTEGER, required=False).read(" ") == ""


def test_a_declaration_that_nothing_reads_is_a_warning():
    """A slip in the input's name, in the facet or in its word; the place is the attribute's."""
    assert found(
        "inputs=depth, input.detph.default=3, input.depth.typ=integer, input.depth.type=int, input.depth.secret=sure"
    ) == [
        ("warning", "graph: the list of inputs does not name 'detph'", "did you mean 'depth'?"),
        ("warning", "graph: nothing reads 'typ' of an input", "did you mean 'type'?"),
        (
            "warning",
            "graph: input.depth.type='int' is ignored: it takes string, integer, number, boolean, choice",
            "string, integer, number, boolean, choice",
        ),
        ("warning", "graph: input.depth.secret='sure' is ignored: it takes true or false", "true or false"),
    ]


def test_a_default_that_does_not_fit_is_an_error():
    """It would refuse every run that relies on it; a secret's default is a name as well."""
    assert found(
        'inputs="a, b, c", input.a.type=integer, input.a.default=x, input.b.type=choice, '
        "input.c.secret=true, input.c.default=hunter2"
    ) == [
        (
            "error",
            "graph: the default of the input 'a' does not fit: a whole number is expected",
            "correct it, or leave it out",
        ),
        ("error", "graph: there is nothing to choose from for the input 'b'", 'list them: input.b.choices="a, b"'),
        (
            "error",
            f"graph: the default of the input 'c' does not fit: {NO_NAME}",
            "correct it, or leave it out",
        ),
    ]


def test_what_is_said_about_an_input_is_no_variable():
    """``$input.depth.default`` is the input, then ``.default``."""
    graph = parse_dot('digraph G { graph [inputs=depth, input.depth.default=3] a [prompt="$input.depth.default"] }')
    assert prepare(graph, inputs={"depth": "7"}).nodes["a"].prompt == "7.default"
