"""Inputs of a run and the secrets that they name."""

from __future__ import annotations

import pytest

from kilroy_engine.errors import InvalidInput
from kilroy_engine.graph.dot import parse_dot
from kilroy_engine.orchestration.inputs import MASK, check_inputs, reveal

GRAPH = 'digraph g { graph [inputs="task, depth"] start [shape=Mdiamond] done [shape=Msquare] start -> done }'


def test_a_missing_declared_input_is_refused_with_kilroys_words() -> None:
    """A pipeline that declares inputs is not started without them (recorded run 20b of Kilroy)."""
    with pytest.raises(InvalidInput) as refusal:
        check_inputs(parse_dot(GRAPH), {"task": "x"})

    expected = 'missing required inputs: depth (declared in graph attribute inputs="task, depth")'
    assert str(refusal.value).startswith(expected)


def test_more_inputs_than_declared_are_fine() -> None:
    """Inputs that the pipeline does not declare are handed on all the same."""
    check_inputs(parse_dot(GRAPH), {"task": "x", "depth": "2", "extra": "y"})


def test_an_environment_secret_is_shown_by_name_and_given_by_value() -> None:
    """``env:NAME``: files and context show the name, child processes get the value, lines of output are masked."""
    inputs = reveal({"token": "env:TOKEN", "task": "plain"}, {"TOKEN": "s3cret"})

    assert inputs.shown == {"token": "env:TOKEN", "task": "plain"}
    assert inputs.values == {"token": "s3cret", "task": "plain"}
    assert inputs.masked("the s3cret is plain") == f"the {MASK} is plain"


def test_a_named_secret_that_does_not_exist_is_refused() -> None:
    """An environment variable that the flow's process lacks refuses the run; its value is not guessed."""
    with pytest.raises(InvalidInput, match="input token names environment variable TOKEN"):
        reveal({"token": "env:TOKEN"}, {})
