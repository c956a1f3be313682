"""``kilroy validate``: checks pipelines without running anything."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from cyclopts import Parameter

from kilroy_engine.cli.errors import ExitCode
from kilroy_engine.cli.show.diagnostics import as_json, count, plural, print_diagnostic, tally
from kilroy_engine.cli.show.streams import console
from kilroy_engine.cli.source import diagnose, no_option, read_source
from kilroy_engine.errors import PackageSyntaxError, PipelineNotFound, PipelineSourceError
from kilroy_engine.graph.diagnostics import Diagnostic, Severity


@dataclass(frozen=True)
class FileReport:
    """The diagnostics of one file. ``nodes`` and ``edges`` are counts, 0 where the file could not be read."""

    file: str
    nodes: int
    edges: int
    diagnostics: tuple[Diagnostic, ...]

    @property
    def failed(self) -> bool:
        return count(self.diagnostics, Severity.ERROR) > 0


def validate(
    files: Annotated[
        list[str],
        Parameter(
            name="FILE",
            allow_leading_hyphen=True,
            validator=no_option,
            help="Pipeline files, or folders of workflow packages; `-` reads one from standard input.",
        ),
    ],
    /,
    *,
    json: Annotated[bool, Parameter(help="Print the findings as JSON.")] = False,
) -> int:
    """Check pipeline files.

    Prints every finding with its place, the rule's name and how to mend it. Only errors stop a run: the exit code is 1 if any
    file has one. A file that cannot be read or parsed does not stop the others.
    """
    reports = [check(name) for name in files]
    if json:
        _print_json(reports)
    else:
        _print(reports)
    return ExitCode.FAIL if any(report.failed for report in reports) else ExitCode.SUCCESS


def check(name: str) -> FileReport:
    """Reads and checks one file. A file that cannot be read or parsed gives a diagnostic."""
    from kilroy_engine.graph.dot.parse import parse_dot

    try:
        source = read_source(name)
    except PipelineNotFound as error:
        return FileReport(name, 0, 0, (Diagnostic("file_readable", Severity.ERROR, str(error)),))
    except PackageSyntaxError as error:
        return FileReport(error.filename, 0, 0, (_syntax(error, "workflow_package"),))
    try:
        graph = parse_dot(source.text, source.name)
    except PipelineSourceError as error:
        return FileReport(source.name, 0, 0, (_syntax(error, "dot_syntax"),))
    return FileReport(source.name, len(graph.nodes), len(graph.edges), diagnose(graph, source))


def _syntax(error: PipelineSourceError, rule: str) -> Diagnostic:
    return Diagnostic(rule, Severity.ERROR, error.message, error.line, error.column, fix=error.hint, excerpt=error.excerpt)


def _print_json(reports: Sequence[FileReport]) -> None:
    files = [
        {
            "file": report.file,
            "nodes": report.nodes,
            "edges": report.edges,
            "diagnostics": [as_json(diagnostic) for diagnostic in report.diagnostics],
        }
        for report in reports
    ]
    print(json.dumps({"files": files}, indent=2))


def _print(reports: Sequence[FileReport]) -> None:
    from rich.text import Text

    for report in reports:
        for diagnostic in report.diagnostics:
            print_diagnostic(report.file, diagnostic)
        if report.diagnostics:
            console().print()
    for report in reports:
        verdict = Text("failed", style="red") if report.failed else Text("ok", style="green")
        size = f"{plural(report.nodes, 'node')}, {plural(report.edges, 'edge')}" if report.nodes else "not read"
        found = tally(report.diagnostics)
        console().print(verdict.append(f": {report.file} ({size}){f': {found}' if found else ''}", style="default"))
    if len(reports) > 1:
        everything = [diagnostic for report in reports for diagnostic in report.diagnostics]
        console().print(f"{plural(len(reports), 'file')} checked: {tally(everything) or 'nothing to say'}")
