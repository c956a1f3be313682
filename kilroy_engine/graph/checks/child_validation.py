"""The check of child pipelines, down to the children of children. Pure: texts come from a function that is handed in."""

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
    """A child pipeline as it was found. ``filename`` is its absolute path, which tells it from others."""

    text: str
    filename: str
    read_text: ReadText


ReadChild = Callable[[str, str], ChildText | None]
"""Gives the pipeline that is called (name) in the pipeline at (path, empty for the first one); None where it is not there.

Raises PipelineNotFound where it is there and cannot be read."""

Check: TypeAlias = Callable[[Graph], tuple[Diagnostic, ...]]
Transform: TypeAlias = Callable[[Graph], Graph]


def with_children_checked(graph: Graph, filename: str, read_child: ReadChild, check: Check, transform: Transform) -> Graph:
    """The graph with what is wrong with its child pipelines among its findings, for validation to report.

    Each child gets ``transform`` and then ``check``, as it will when it runs.
    ``filename`` is the absolute path of the graph's own file, empty where it has none. A child file that is not there is a
    warning: an earlier stage may write it.
    """
    children = _Children(read_child, check, transform)
    return replace(graph, findings=(*graph.findings, *children.findings(graph, (filename,))))


@dataclass(frozen=True, slots=True)
class _Children:
    read_child: ReadChild
    check: Check
    transform: Transform

    def findings(self, graph: Graph, around: tuple[str, ...]) -> Iterator[Diagnostic]:
        """Findings about the children of ``graph``; ``around`` are the files from the first pipeline to this one."""
        for node in graph.nodes.values():
            named = child_file(graph, node)
            if named is not None and starts_child(node):
                yield from self._child(node, named, around)

    def _child(self, node: Node, named: Attribute, around: tuple[str, ...]) -> Iterator[Diagnostic]:
        name = named.value.strip()
        try:
            found = self.read_child(name, around[-1])
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
        elif problem := nesting_problem((*around, found.filename)):
            yield _finding(node, named, f"node '{node.id}': {problem}", fix="let the pipeline go round by an edge instead")
        else:
            yield from self._text(node, named, found, (*around, found.filename))

    def _text(self, node: Node, named: Attribute, found: ChildText, around: tuple[str, ...]) -> Iterator[Diagnostic]:
        name = named.value.strip()
        try:
            child = self.transform(prepare(parse_dot(found.text, name), read_text=found.read_text))
        except DotSyntaxError as error:
            message = f"node '{node.id}': child pipeline {name}:{error.line}:{error.column}: {error.message}"
            yield _finding(node, named, message, fix=error.hint, excerpt=error.excerpt)
            return
        child = replace(child, findings=(*child.findings, *self.findings(child, around)))
        for error in errors_of(self.check(child)):
            place = f"{name}:{error.line}:{error.column}" if error.line else name
            message = f"node '{node.id}': child pipeline {place}: {error.message} ({error.rule})"
            yield _finding(node, named, message, fix=error.fix, excerpt=error.excerpt)


def nesting_problem(files: tuple[str, ...]) -> str:
    """What is wrong with pipelines that are nested like this, outermost first; empty where nothing is.

    Files are absolute paths, empty for a pipeline without a file.
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
