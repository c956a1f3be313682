"""Reads the pipeline that the command line names: by a path, or ``-`` for standard input."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from kilroy_engine.errors import PipelineNotFound

if TYPE_CHECKING:
    from kilroy_engine.graph.diagnostics import Diagnostic
    from kilroy_engine.graph.model import Graph

STANDARD_INPUT = "-"
STANDARD_INPUT_NAME = "<stdin>"


def no_option(kind: object, value: str | Sequence[str]) -> None:  # cyclopts passes the type to every validator
    """Validator of file arguments: refuses texts that begin with a hyphen, except a lone ``-``."""
    for name in [value] if isinstance(value, str) else value:
        if name.startswith("-") and name != STANDARD_INPUT:
            raise ValueError(f"There is no option {name}, and a file of that name is given as ./{name}.")


@dataclass(frozen=True)
class Source:
    """The text of a pipeline, its name for messages, and the folder from which ``prompt_file`` attributes count.

    ``inputs`` are the inputs that the workflow package declares: name to default, or to ``$input.NAME`` without a default.
    """

    text: str
    name: str
    folder: Path
    inputs: Mapping[str, str] = field(default_factory=dict[str, str])


def read_source(name: str) -> Source:
    """The pipeline that ``name`` names: a path, or ``-`` for standard input.

    Raises:
        PipelineNotFound: There is no readable pipeline.
        PackageSyntaxError: The ``workflow.toml`` of a package is malformed.
    """
    from kilroy_engine.execution.preparing.package import package_at
    from kilroy_engine.execution.preparing.pipeline_file import read_pipeline

    if name == STANDARD_INPUT:
        return Source(read_standard_input(), STANDARD_INPUT_NAME, Path.cwd())
    if not Path(name).expanduser().exists() and "{" in name:
        raise PipelineNotFound(
            "a file name is expected, not DOT text; give `-` and pass the text on standard input", path=Path()
        )
    text, filename = read_pipeline(name)
    package = package_at(name, base=Path.cwd())
    declared = package.manifest.inputs if package else ()
    inputs = {one.name: f"$input.{one.name}" if one.default is None else one.default for one in declared}
    return Source(text, filename, Path(filename).expanduser().absolute().parent, inputs)


def read_standard_input() -> str:
    """Standard input as text.

    Raises:
        PipelineNotFound: Standard input is empty or not UTF-8.
    """
    raw = sys.stdin.buffer.read()
    if not raw.strip():
        raise PipelineNotFound("standard input is empty; a DOT pipeline is expected there", path=Path(STANDARD_INPUT))
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise PipelineNotFound(
            f"standard input is not UTF-8 text (byte {error.start} is {raw[error.start]:#04x})", path=Path(STANDARD_INPUT)
        ) from error


def diagnose(graph: Graph, source: Source) -> tuple[Diagnostic, ...]:
    """All findings of a graph, after the transforms that a run applies."""
    from kilroy_engine.execution.preparing.extensions import findings_with_plugins, with_plugin_transforms
    from kilroy_engine.execution.preparing.pipeline_file import child_reader, read_prompt
    from kilroy_engine.graph.checks.child_validation import with_children_checked
    from kilroy_engine.graph.transforms import prepare

    read_text = partial(read_prompt, source.folder)
    graph = with_plugin_transforms(prepare(graph, inputs=source.inputs, read_text=read_text))
    file = str((source.folder / Path(source.name).name).resolve()) if source.name != STANDARD_INPUT_NAME else ""
    reader = child_reader(source.folder)
    return findings_with_plugins(with_children_checked(graph, file, reader, findings_with_plugins, with_plugin_transforms))
