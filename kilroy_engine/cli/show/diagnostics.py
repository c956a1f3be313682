"""Prints diagnostics for people, and converts them to JSON for programs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from kilroy_engine.cli.show.streams import console
from kilroy_engine.errors import InvalidPipeline
from kilroy_engine.graph.diagnostics import Diagnostic, Severity

_STYLES = {Severity.ERROR: "bold red", Severity.WARNING: "bold yellow", Severity.INFO: "bold blue"}


def print_diagnostic(filename: str, diagnostic: Diagnostic, *, stderr: bool = False, brief: bool = False) -> None:
    """Prints ``file:line:column severity rule message``. Unless ``brief``, adds the source line with a caret, and the fix."""
    from rich.text import Text

    place = f"{filename}:{diagnostic.line}:{diagnostic.column}" if diagnostic.line else filename
    text = Text.assemble(
        (place, "bold"),
        " ",
        (diagnostic.severity.lower(), _STYLES[diagnostic.severity]),
        " ",
        (diagnostic.rule, "dim"),
        f" {diagnostic.message}",
    )
    for line in diagnostic.excerpt.splitlines() if not brief else ():
        text.append(f"\n    {line}", "cyan" if line.strip() == "^" else "")
    if diagnostic.fix and not brief:
        text.append("\n    fix: ", "green")
        text.append(diagnostic.fix)
    console(stderr=stderr).print(text)


def as_json(diagnostic: Diagnostic) -> dict[str, object]:
    """The diagnostic as ``kilroy validate --json`` prints it."""
    return {
        "rule": diagnostic.rule,
        "severity": diagnostic.severity.value,
        "message": diagnostic.message,
        "line": diagnostic.line,
        "column": diagnostic.column,
        "node": diagnostic.node,
        "edge": diagnostic.edge,
        "fix": diagnostic.fix,
    }


def count(diagnostics: Iterable[Diagnostic], severity: Severity) -> int:
    """The number of diagnostics with this severity."""
    return sum(diagnostic.severity == severity for diagnostic in diagnostics)


def tally(diagnostics: Sequence[Diagnostic]) -> str:
    """``1 error, 2 warnings``, without the severities that do not occur. Empty when there are no diagnostics."""
    words = ((Severity.ERROR, "error"), (Severity.WARNING, "warning"), (Severity.INFO, "note"))
    parts = [(count(diagnostics, severity), word) for severity, word in words]
    return ", ".join(plural(number, word) for number, word in parts if number)


def plural(number: int, word: str) -> str:
    """``1 file``, ``2 files``."""
    return f"{number} {word}" if number == 1 else f"{number} {word}s"


def print_refusal(error: InvalidPipeline, filename: str = "") -> None:
    """Prints in full, on standard error, every error for which a run's pipeline was refused."""
    errors = [diagnostic for diagnostic in error.diagnostics if diagnostic.severity == Severity.ERROR]
    for diagnostic in errors:
        print_diagnostic(filename or "pipeline", diagnostic, stderr=True)
    console(stderr=True).print(f"kilroy: validation failed with {tally(errors)}; nothing was started")
