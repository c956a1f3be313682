"""``kilroy render``: draws a pipeline, or the path that a run took through its pipeline."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from kilroy_engine.cli.find_run import find_run, root_of_runs
from kilroy_engine.cli.show.streams import say
from kilroy_engine.cli.source import STANDARD_INPUT, no_option, read_source
from kilroy_engine.errors import InvalidInput, PipelineNotFound, RunDirectoryError
from kilroy_engine.graph.model import Graph
from kilroy_engine.rundir.files.layout import RunDirectory

_BY_GRAPHVIZ = (".svg", ".png", ".pdf")
_DOT = (".dot", ".gv")
_MERMAID = (".mmd", ".mermaid")
_GRAPHVIZ_TIMEOUT_S = 60


@dataclass(frozen=True)
class Picture:
    """What is drawn: the graph, and for a run the last status of each node and the edges that were taken."""

    graph: Graph
    statuses: Mapping[str, str] = field(default_factory=dict[str, str])
    taken: tuple[tuple[str, str], ...] = ()


def render(
    subject: Annotated[
        str,
        Parameter(
            name="FILE|RUN",
            allow_leading_hyphen=True,
            validator=no_option,
            help="Pipeline file, `-` for standard input, or a run: id, beginning of an id, or path.",
        ),
    ],
    /,
    *,
    output: Annotated[
        Path,
        Parameter(
            name=("--output", "-o"),
            allow_leading_hyphen=True,
            help="Where to write. The suffix decides: .svg, .png and .pdf (need Graphviz), .dot, .mmd (Mermaid). "
            "`-` prints DOT.",
        ),
    ],
    runs_root: Annotated[Path | None, Parameter(help="Folder of run directories.")] = None,
) -> int:
    """Draw a pipeline, or the path of a run.

    For a run, nodes show how their last visit ended and the edges that were taken are marked.
    """
    write = writer_for(output)
    picture = _picture_of(subject, runs_root)
    write(picture, output)
    if str(output) != STANDARD_INPUT:
        say(f"wrote {output}")
    return 0


def _picture_of(subject: str, runs_root: Path | None) -> Picture:
    from kilroy_engine.graph.dot.parse import parse_dot

    path = Path(subject).expanduser()
    if subject == STANDARD_INPUT or path.is_file() or path.suffix in _DOT:
        source = read_source(subject)
        return Picture(parse_dot(source.text, source.name))
    try:
        run = find_run(subject, root_of_runs(runs_root))
    except RunDirectoryError as error:
        raise PipelineNotFound(f"{subject} is neither a pipeline file nor a run: {error}", path=path) from error
    return picture_of_run(run)


def picture_of_run(run: RunDirectory) -> Picture:
    """The picture of the path that the run took, from the run's own copy of the pipeline and the run's events."""
    from kilroy_engine.graph.dot.parse import parse_dot
    from kilroy_engine.rundir.stream.reader import tail_events
    from kilroy_engine.rundir.stream.visits import last_statuses, read_visits, taken_edges

    source = read_source(str(run.graph_dot))
    visits = read_visits(tail_events(run.path))
    return Picture(parse_dot(source.text, source.name), last_statuses(visits), taken_edges(visits))


def writer_for(output: Path) -> Callable[[Picture, Path], None]:
    """The function that writes a picture to ``output``, chosen by the suffix.

    Raises:
        InvalidInput: The suffix names no known format.
    """
    suffix = output.suffix.lower()
    if str(output) == STANDARD_INPUT or suffix in _DOT:
        return _write_dot
    if suffix in _MERMAID:
        return _write_mermaid
    if suffix in _BY_GRAPHVIZ:
        return _write_by_graphviz
    known = ", ".join((*_BY_GRAPHVIZ, ".dot", ".mmd"))
    raise InvalidInput(f"--output {output}: the suffix must be one of {known}", name="output")


def _dot_text(picture: Picture) -> str:
    from kilroy_engine.graph.render import to_dot

    return to_dot(picture.graph, statuses=picture.statuses, taken=picture.taken)


def _write_dot(picture: Picture, output: Path) -> None:
    _write_text(_dot_text(picture), output)


def _write_mermaid(picture: Picture, output: Path) -> None:
    from kilroy_engine.graph.render import to_mermaid

    _write_text(to_mermaid(picture.graph, statuses=picture.statuses, taken=picture.taken), output)


def _write_text(text: str, output: Path) -> None:
    if str(output) == STANDARD_INPUT:
        sys.stdout.write(text)
    else:
        output.write_text(text, encoding="utf-8")


def _write_by_graphviz(picture: Picture, output: Path) -> None:
    from kilroy_engine.processes.graphviz import draw

    kind = output.suffix.lower().removeprefix(".")
    output.write_bytes(draw(_dot_text(picture), kind, timeout_s=_GRAPHVIZ_TIMEOUT_S))
