"""Checks the child pipelines of a graph, and the children of children. Pure: the caller gives the file reader."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import PurePath
from typing import TypeAlias

from kilroy_engine.errors import DotSyntaxError, PipelineNotFound
from kilroy_engine.graph.checks.validation import errors_of
from kilroy_engine.graph.children import MAX_DEPTH, child_file, starts_child
from kilroy_engine.graph.diagnostics import Diagnostic, Severity
from kilroy_engine.graph.dot.parse import parse_dot
from kilroy_engine.graph.model import Attribute, Graph, Node
from kilroy_engine.graph.transforms import ReadText, prepare

RULE = "child_pipeline"


@dataclass(frozen=True, slots=True)
class ChildText:
    """The text of a child pipeline, the absolute path of its file, and the reader of its prompt files."""

    text: str
    filename: str
    read_text: ReadText


ReadChild = Callable[[str, str], ChildText | None]
"""Reads a child pipeline: (the file's name in the parent pipeline, the parent's path or empty) -> its text, None if missing.

Raises PipelineNotFound where the file exists and cannot be read."""

Check: TypeAlias = Callable[[Graph], tuple[Diagnostic, ...]]
Transform: TypeAlias = Callable[[Graph], Graph]


def with_children_checked(graph: Graph, filename: str, read_child: ReadChild, check: Check, transform: Transform) -> Graph:
    """The graph with diagnostics about its child pipelines added to its findings. Validation reports them.

    ``filename`` is the absolute path of the graph's own file, empty for a graph without a file. ``transform`` and then
    ``check`` are called for the graph of each child, as when the child runs. A missing child file is only a warning, because
    an earlier stage may write the file.
    """
    children = _Children(read_child, check, transform)
    return replace(graph, findings=(*graph.findings, *children.findings(graph, (filename,))))


@dataclass(frozen=True, slots=True)
class _Children:
    read_child: ReadChild
    check: Check
    transform: Transform

    def findings(self, graph: Graph, outer_files: tuple[str, ...]) -> Iterator[Diagnostic]:
        """Findings about the children of ``graph``. ``outer_files`` are the files from the outermost pipeline to ``graph``."""
        for node in graph.nodes.values():
            named = child_file(graph, node)
            if named is not None and starts_child(node):
                yield from self._child_findings(node, named, outer_files)

    def _child_findings(self, node: Node, named: Attribute, outer_files: tuple[str, ...]) -> Iterator[Diagnostic]:
        name = named.value.strip()
        try:
            found = self.read_child(name, outer_files[-1])
        except PipelineNotFound as error:
            yield _finding(node, named, f"node '{node.id}': {error}", fix="name a DOT file")
            return
        if found is None:
            yield _finding(
                node,
                named,
                f"node '{node.id}': the child pipeline {name} is not there now; the node fails unless a stage before it "
                "writes the file into the work folder",
                severity=Severity.WARNING,
                fix="paths count from the pipeline's folder, then from the work folder",
            )
        elif problem := nesting_problem((*outer_files, found.filename)):
            yield _finding(node, named, f"node '{node.id}': {problem}", fix="let the pipeline go round by an edge instead")
        else:
            yield from self._text_findings(node, named, found, (*outer_files, found.filename))

    def _text_findings(
        self, node: Node, named: Attribute, found: ChildText, outer_files: tuple[str, ...]
    ) -> Iterator[Diagnostic]:
        name = named.value.strip()
        try:
            child = self.transform(prepare(parse_dot(found.text, name), read_text=found.read_text))
        except DotSyntaxError as error:
            message = f"node '{node.id}': child pipeline {name}:{error.line}:{error.column}: {error.message}"
            yield _finding(node, named, message, fix=error.hint, excerpt=error.excerpt)
            return
        child = replace(child, findings=(*child.findings, *self.findings(child, outer_files)))
        for error in errors_of(self.check(child)):
            place = f"{name}:{error.line}:{error.column}" if error.line else name
            message = f"node '{node.id}': child pipeline {place}: {error.message} ({error.rule})"
            yield _finding(node, named, message, fix=error.fix, excerpt=error.excerpt)


def nesting_problem(files: tuple[str, ...]) -> str:
    """What is wrong with this nesting of pipelines: the last one contains itself or is too deep. Empty if nothing is wrong.

    ``files`` are absolute paths, outermost first; the path of a pipeline without a file is empty.
    """
    if files[-1] and files[-1] in files[:-1]:
        chain = " -> ".join(PurePath(file).name for file in files[files.index(files[-1]) :])
        return f"a pipeline cannot contain itself: {chain}"
    if len(files) - 1 > MAX_DEPTH:
        return f"more than {MAX_DEPTH} pipelines are nested in each other; the last one is {PurePath(files[-1]).name}"
    return ""


def _finding(
    node: Node,
    named: Attribute,
    message: str,
    *,
    severity: Severity = Severity.ERROR,
    fix: str = "",
    excerpt: str = "",
) -> Diagnostic:
    place = named.value_position
    return Diagnostic(RULE, severity, message, place.line, place.column, node=node.id, fix=fix, excerpt=excerpt)
