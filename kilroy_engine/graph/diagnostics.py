"""What the checks say about a graph."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Severity(StrEnum):
    """How bad it is. Only ``ERROR`` stops a run (Spec 7.1)."""

    ERROR = "ERROR"
    WARNING = "WARNING"
    INFO = "INFO"


@dataclass(frozen=True, slots=True)
class Diagnostic:
    """One finding of one rule. ``line`` and ``column`` count from 1; 0 means that it concerns the file as a whole.

    ``node`` is a node id, ``edge`` reads ``a -> b``; both are empty where they do not apply. ``fix`` says how to mend it,
    with the "did you mean" where there is one. ``excerpt`` is the source line with a caret line below it.
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
