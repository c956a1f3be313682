"""The flow of one pipeline: its parameters are what Prefect makes a form of."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from prefect.exceptions import ParameterTypeError

from kilroy_engine.errors import DotSyntaxError, PipelineNotFound
from kilroy_engine.orchestration.flows.pipeline_flow import pipeline_flow, texts_of

INPUTS = (
    'inputs="topic, depth, ratio, loud, tone, token, spec.md", input.topic.description="What to write about", '
    "input.depth.type=integer, input.depth.default=3, input.ratio.type=number, input.ratio.required=false, "
    'input.loud.type=boolean, input.loud.default=yes, input.tone.choices="dry, warm", input.tone.default=dry, '
    'input.token.secret=true, "input.spec.md.required"=false'
)


def flow_of(folder: Path, attributes: str = INPUTS) -> Any:
    file = folder / "demo.dot"
    file.write_text(f"digraph demo {{ graph [{attributes}] start [shape=Mdiamond] done [shape=Msquare] start -> done }}")
    return pipeline_flow(file)


def test_every_declared_input_is_a_field_of_its_type(tmp_path: Path) -> None:
    """Title, description, default, choices and what is required; an optional figure is the only switch."""
    schema = flow_of(tmp_path).parameters.model_dump()
    fields = schema["definitions"]["Inputs"]

    assert fields["properties"] == {
        "topic": {"type": "string", "title": "topic", "description": "What to write about"},
        "depth": {"type": "integer", "title": "depth", "default": 3},
        "ratio": {"anyOf": [{"type": "number"}, {"type": "null"}], "title": "ratio", "default": None},
        "loud": {"type": "boolean", "title": "loud", "default": True},
        "tone": {"type": "string", "title": "tone", "enum": ["dry", "warm"], "default": "dry"},
        "token": {
            "type": "string",
            "title": "token",
            "pattern": "^(?:secret|env):.+$",
            "description": "Name a secret, do not give it: secret:NAME or env:NAME.",
        },
        "spec.md": {"type": "string", "title": "spec.md", "default": ""},
    }
    assert fields["required"] == ["topic", "token"]
    assert schema["required"] == ["inputs"]
    assert list(schema["properties"]) == ["inputs", "repo", "options", "labels"]


def test_values_of_the_form_become_the_texts_that_stages_see(tmp_path: Path) -> None:
    """Figures and switches in one spelling, an empty optional figure left out, an undeclared input handed on."""
    given = {"topic": "bees", "depth": 4, "ratio": 2.0, "loud": False, "token": "env:T", "spec.md": "x", "more": "y"}
    parameters = flow_of(tmp_path).validate_parameters({"inputs": given})

    assert texts_of(parameters["inputs"]) == {
        "topic": "bees",
        "depth": "4",
        "ratio": "2",
        "loud": "false",
        "tone": "dry",
        "token": "env:T",
        "spec.md": "x",
        "more": "y",
    }
    without = flow_of(tmp_path).validate_parameters({"inputs": {"topic": "bees", "token": "secret:t"}})
    assert "ratio" not in texts_of(without["inputs"])


@pytest.mark.parametrize(
    "given", [{"topic": "x"}, {"topic": "x", "token": "hunter2"}, {"topic": "x", "token": "env:T", "depth": "deep"}]
)
def test_what_does_not_fit_is_refused_by_prefect_already(tmp_path: Path, given: dict[str, object]) -> None:
    """Missing, a secret that is given, a word for a figure."""
    with pytest.raises(ParameterTypeError):
        flow_of(tmp_path).validate_parameters({"inputs": given})


def test_a_pipeline_whose_inputs_are_all_optional_asks_for_nothing(tmp_path: Path) -> None:
    """The form can be sent as it is; a pipeline without declared inputs as well."""
    optional = flow_of(tmp_path, "inputs=depth, input.depth.type=integer, input.depth.default=3").parameters.model_dump()
    assert optional["required"] == []
    assert optional["properties"]["inputs"]["default"] == {"depth": 3}
    assert flow_of(tmp_path, "label=x").parameters.model_dump()["required"] == []


def test_hooks_and_name_are_those_of_the_general_flow(tmp_path: Path) -> None:
    """So the end is written by the same hand, and the reconciler finds the runs."""
    flow = flow_of(tmp_path)
    assert flow.name == "attractor"
    hooks = (flow.on_completion_hooks, flow.on_failure_hooks, flow.on_crashed_hooks, flow.on_cancellation_hooks)
    assert [[hook.__name__ for hook in found] for found in hooks] == [["finalize"]] * 4


def test_a_file_that_is_no_pipeline_is_told_when_it_is_deployed(tmp_path: Path) -> None:
    """Not by the first run."""
    with pytest.raises(PipelineNotFound):
        pipeline_flow(tmp_path / "absent.dot")
    (tmp_path / "broken.dot").write_text("digraph g { a -> }")
    with pytest.raises(DotSyntaxError):
        pipeline_flow(tmp_path / "broken.dot")
