"""Makes a flow for one pipeline, whose declared inputs are typed fields of the deployment's run form.

The fields belong to a nested model, because both of Prefect's UIs show the titles, descriptions and defaults of a model. An
optional input has a default where possible, because both UIs show ``x | None`` as a clumsy switch.
"""

# No `from __future__ import annotations` here: Prefect reads the signature, whose types exist only inside of the function.
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from prefect import Flow, flow
from pydantic import BaseModel, ConfigDict, Field, create_model

from kilroy_engine.execution.preparing.package import package_at
from kilroy_engine.execution.preparing.pipeline_file import read_pipeline
from kilroy_engine.execution.preparing.preparation import RunParameters
from kilroy_engine.graph.conditions import stringify
from kilroy_engine.graph.dot.parse import parse_dot
from kilroy_engine.graph.inputs import NAMED_SECRET, DeclaredInput, InputType, declared_inputs
from kilroy_engine.orchestration.ending.hooks import HOOKS
from kilroy_engine.orchestration.flows.attractor import attractor, name_of_flow_run, run_pipeline
from kilroy_engine.settings.options import Options

_DOCUMENTATION = """{about}

Args:
    inputs: Inputs of the pipeline.
    repo: Repository to work on. Empty: the one around the flow's working folder, if there is one.
    options: Everything that is rarely changed.
    labels: Labels of the run, for finding it again, name to text.
"""


def pipeline_flow(graph: str | Path) -> Flow[..., Any]:
    """The flow of the pipeline in ``graph``, a file or the folder of a workflow package.

    A relative path counts from the deployment's folder. Deploy the flow by an entrypoint of your own, for example
    ``flows/report.py:report``. The flow differs from ``attractor`` in its parameters only: there is no ``graph``, and
    ``inputs`` is an object with a typed field per declared input.

    Raises:
        PipelineNotFound: The file cannot be read.
        DotSyntaxError: The file holds no pipeline.
    """
    file = str(graph)
    source, filename = read_pipeline(file)
    pipeline = parse_dot(source, filename)
    package = package_at(file, base=Path())
    declared = declared_inputs(pipeline)
    if package is not None:
        declared = package.declared_with(declared)
    model = input_model(declared)

    def run(
        inputs: BaseModel,
        repo: str = "",
        options: Options = Options(),  # noqa: B008 - a factory would show as required in the form
        labels: dict[str, str] = {},  # noqa: B006 - the same
    ) -> Any:
        return run_pipeline(RunParameters(file, texts_of(inputs), repo, options, labels))

    run.__annotations__["inputs"] = model
    if all(known.absent is not None for known in declared):
        run.__defaults__ = (model(), *(run.__defaults__ or ()))
    run.__doc__ = _DOCUMENTATION.format(about=pipeline.text("label") or pipeline.goal or pipeline.name)
    return flow(
        name=attractor.name,
        flow_run_name=lambda: name_of_flow_run(file),
        persist_result=False,
        **HOOKS,
    )(run)


def input_model(declared: Sequence[DeclaredInput]) -> type[BaseModel]:
    """A pydantic model with a field per declared input. The input's name is the field's alias, because a name may be no
    Python identifier.

    The model accepts inputs that are not declared, as ``kilroy run`` does.
    """
    fields: dict[str, Any] = {f"field_{index}": _field(known) for index, known in enumerate(declared)}
    return create_model("Inputs", __config__=ConfigDict(extra="allow"), **fields)


def texts_of(inputs: BaseModel) -> dict[str, str]:
    """The model's values as texts, by input name, for :class:`RunParameters`. An input without a value is left out."""
    given = inputs.model_dump(by_alias=True, mode="json")
    return {name: stringify(value) for name, value in given.items() if value is not None}


_TYPES: dict[InputType, Any] = {
    InputType.STRING: str,
    InputType.INTEGER: int,
    InputType.NUMBER: float,
    InputType.BOOLEAN: bool,
}


def _field(known: DeclaredInput) -> tuple[Any, Any]:
    """Type and pydantic field of one input."""
    kind: Any = Literal[known.choices] if known.type is InputType.CHOICE else _TYPES[known.type]
    text, pattern = known.description, None
    if known.secret:
        text = f"{text} Name a secret, do not give it: secret:NAME or env:NAME.".strip()
        # The server refuses parameters that do not match, before it stores them.
        pattern = f"^{NAMED_SECRET.pattern}$" if known.required else f"^({NAMED_SECRET.pattern})?$"
    default: Any = ... if known.absent is None else _default(known, known.absent)
    if default is None:
        kind = kind | None
    return kind, Field(default, alias=known.name, title=known.name, description=text or None, pattern=pattern)


def _default(known: DeclaredInput, text: str) -> Any:
    """The default ``text`` as a value of the input's type. None for an empty text of any type but string."""
    if known.type is InputType.STRING:
        return text
    if not text:
        return None
    value = known.read(text)
    match known.type:
        case InputType.INTEGER:
            return int(value)
        case InputType.NUMBER:
            return float(value)
        case InputType.BOOLEAN:
            return value == "true"
        case InputType.CHOICE:
            return value
