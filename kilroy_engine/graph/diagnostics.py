"""Diagnostics: the findings of the checks on a graph, and their severity."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Severity(StrEnum):
    """How bad a finding is. Only ``ERROR`` stops a run (Spec 7.1)."""

    ERROR = "ERROR"
    WARNING = "WARNING"
    INFO = "INFO"


@dataclass(frozen=True, slots=True)
class Diagnostic:
    """One finding of one rule. ``line`` and ``column`` count from 1; 0 means that the finding concerns the whole file.

    ``node`` is a node id, ``edge`` reads ``a -> b``; both are empty where they do not apply. ``fix`` says how to mend the
    problem, with a "did you mean" where a near name exists. ``excerpt`` is the source line with a caret line below it.
    """

    rule: str
    severity: Severity
    message: str
    line: int = 0
    column: int = 0
    node: str = ""
    edge: str = ""
    fix: str = ""
    excerpt: str = ""
