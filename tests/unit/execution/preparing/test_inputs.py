"""Inputs of a run and the secrets that they name."""

from __future__ import annotations

import pytest

from kilroy_engine.errors import InvalidInput
from kilroy_engine.execution.preparing.inputs import MASK, Inputs, check_inputs, reveal, with_defaults
from kilroy_engine.graph.inputs import DeclaredInput, InputType


def no_secret(name: str) -> str:
    raise KeyError(name)


DECLARED = (DeclaredInput("task"), DeclaredInput("depth"))


def test_a_missing_declared_input_is_refused_with_kilroys_words() -> None:
    """A pipeline that declares inputs is not started without them (recorded run 20b of Kilroy)."""
    with pytest.raises(InvalidInput) as refusal:
        check_inputs(DECLARED, {"task": "x"})

    expected = 'missing required inputs: depth (declared in graph attribute inputs="task, depth")'
    assert str(refusal.value).startswith(expected)


def test_more_inputs_than_declared_are_fine() -> None:
    """Inputs that the pipeline does not declare are handed on all the same."""
    check_inputs(DECLARED, {"task": "x", "depth": "2", "extra": "y"})


def test_an_environment_secret_is_shown_by_name_and_given_by_value() -> None:
    """``env:NAME``: files and context show the name, child processes get the value, lines of output are masked."""
    inputs = reveal((), {"token": "env:TOKEN", "task": "plain"}, {"TOKEN": "s3cret"}, no_secret)

    assert inputs.shown == {"token": "env:TOKEN", "task": "plain"}
    assert inputs.values == {"token": "s3cret", "task": "plain"}
    assert inputs.masked("the s3cret is plain") == f"the {MASK} is plain"


def test_a_named_secret_that_does_not_exist_is_refused() -> None:
    """An environment variable that the flow's process lacks refuses the run; its value is not guessed."""
    with pytest.raises(InvalidInput, match="input token names environment variable TOKEN"):
        reveal((), {"token": "env:TOKEN"}, {}, no_secret)


def test_every_problem_is_told_at_once() -> None:
    """One message: what does not fit, with what is expected, and what is missing."""
    declared = (
        DeclaredInput("depth", InputType.INTEGER),
        DeclaredInput("tone", InputType.CHOICE, choices=("dry", "warm")),
        DeclaredInput("topic"),
    )
    with pytest.raises(InvalidInput) as refusal:
        check_inputs(declared, {"depth": "deep", "tone": "loud"})

    assert str(refusal.value).startswith(
        "input depth is 'deep': a whole number is expected; input tone is 'loud': one of dry, warm is expected; "
        'missing required inputs: topic (declared in graph attribute inputs="depth, tone, topic"); give each with --input'
    )


@pytest.mark.parametrize("given", ["s3cret", ""])
def test_a_secret_that_is_given_instead_of_named_is_refused_and_not_shown(given: str) -> None:
    """Parameters are kept by the server and files by the run: a secret must not come into them, the message included."""
    with pytest.raises(InvalidInput) as refusal:
        check_inputs((DeclaredInput("token", secret=True),), {"token": given})

    assert str(refusal.value) == "input token: a secret is named and never given: secret:NAME or env:NAME is expected"
    check_inputs((DeclaredInput("token", secret=True),), {"token": "env:TOKEN"})


def test_defaults_fill_what_is_not_given_and_values_get_one_spelling() -> None:
    """A given value wins; an optional input without a default is empty; a value that does not fit is left for the check."""
    declared = (
        DeclaredInput("depth", InputType.INTEGER, required=False, default="3"),
        DeclaredInput("loud", InputType.BOOLEAN),
        DeclaredInput("note", required=False),
        DeclaredInput("topic"),
        DeclaredInput("ratio", InputType.NUMBER),
    )
    found = with_defaults(declared, {"loud": "Yes", "ratio": "much", "extra": "x"})
    assert found == {"depth": "3", "loud": "true", "note": "", "ratio": "much", "extra": "x"}
    assert with_defaults(declared, {"depth": " +7 "})["depth"] == "7"


def test_what_a_name_stands_for_has_to_fit_too() -> None:
    """A typed input may be named; what it names is looked at when it is known, and is not shown."""
    declared = (DeclaredInput("depth", InputType.INTEGER),)
    check_inputs(declared, {"depth": "env:DEPTH"})
    assert reveal(declared, {"depth": "env:DEPTH"}, {"DEPTH": " 4 "}, no_secret).values == {"depth": "4"}
    with pytest.raises(InvalidInput, match=r"^input depth: what env:DEPTH names: a whole number is expected$"):
        reveal(declared, {"depth": "env:DEPTH"}, {"DEPTH": "hidden"}, no_secret)


def test_a_secret_is_blotted_out_of_whole_values() -> None:
    """Wherever it stands in a list or an object, names of entries included; figures stay."""
    inputs = Inputs(shown={"t": "env:T"}, values={"t": "s3cret"})
    masked = inputs.masked_value({"s3cret": ["a s3cret", {"n": 3, "x": None}], "ok": True})
    assert masked == {MASK: [f"a {MASK}", {"n": 3, "x": None}], "ok": True}


def test_a_secret_of_the_orchestrator_is_asked_for_by_its_name() -> None:
    """``secret:NAME``: shown by name, given by value; one that is not there refuses the run and says where to make it."""
    kept = {"deploy-token": "s3cret"}
    inputs = reveal((), {"token": "secret:deploy-token"}, {}, kept.__getitem__)

    assert (inputs.shown["token"], inputs.values["token"]) == ("secret:deploy-token", "s3cret")
    with pytest.raises(InvalidInput, match="names the Prefect Secret block 'other', which does not exist"):
        reveal((), {"token": "secret:other"}, {}, kept.__getitem__)
