"""Checks a whole graph with every rule, and sorts the diagnostics by their place in the text."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from kilroy_engine.errors import InvalidPipeline
from kilroy_engine.graph.checks import (
    calls,
    children,
    inputs,
    loops,
    routing,
    stages,
    structure,
    support,
    values,
    without_effect,
)
from kilroy_engine.graph.checks.subject import Rule, Subject
from kilroy_engine.graph.diagnostics import Diagnostic, Severity
from kilroy_engine.graph.model import Graph
from kilroy_engine.graph.node_types import BUILT_IN_TYPES
from kilroy_engine.graph.source import excerpt, source_lines

BUILT_IN_RULES: tuple[Rule, ...] = (
    *structure.RULES,
    *routing.RULES,
    *loops.RULES,
    *values.RULES,
    *without_effect.RULES,
    *inputs.RULES,
    *stages.RULES,
    *calls.RULES,
    *children.RULES,
    *support.RULES,
)

_ORDER = {Severity.ERROR: 0, Severity.WARNING: 1, Severity.INFO: 2}


def validate(
    graph: Graph,
    *,
    known_types: frozenset[str] = BUILT_IN_TYPES,
    default_agent: bool = True,
    extra_rules: Iterable[Rule] = (),
) -> tuple[Diagnostic, ...]:
    """All diagnostics of a graph, sorted by place; at the same place, errors come first (Spec 7.3).

    Called after ``graph.transforms.prepare``.

    Args:
        known_types: Types that have a handler. A node of any other type is checked as the type of its shape.
        default_agent: Whether nodes that name no provider have an agent.
        extra_rules: Rules to run after the built-in ones (Spec 7.4).
    """
    subject = Subject(graph, known_types, default_agent)
    found = list(graph.findings)
    for rule in (*BUILT_IN_RULES, *extra_rules):
        found += rule(subject)
    found.sort(key=lambda d: (d.line, d.column, _ORDER[d.severity], d.rule, d.message))
    return located(graph, found)


def located(graph: Graph, found: Iterable[Diagnostic]) -> tuple[Diagnostic, ...]:
    """The diagnostics, each with the excerpt of the graph's source at its place. An excerpt that is there already stays."""
    lines = source_lines(graph.source) if graph.source else []
    return tuple(replace(d, excerpt=d.excerpt or excerpt(lines, d.line, d.column)) for d in found)


def require_valid(
    graph: Graph,
    *,
    known_types: frozenset[str] = BUILT_IN_TYPES,
    default_agent: bool = True,
    extra_rules: Iterable[Rule] = (),
) -> tuple[Diagnostic, ...]:
    """The diagnostics of a graph without errors: warnings and notes. The arguments are those of :func:`validate`.

    Raises:
        InvalidPipeline: At least one diagnostic is an error. The exception holds all diagnostics.
    """
    diagnostics = validate(graph, known_types=known_types, default_agent=default_agent, extra_rules=extra_rules)
    if errors_of(diagnostics):
        raise InvalidPipeline(diagnostics=diagnostics)
    return diagnostics


def errors_of(diagnostics: Sequence[Diagnostic]) -> tuple[Diagnostic, ...]:
    """The diagnostics of severity ``ERROR``, which stop a run."""
    return tuple(d for d in diagnostics if d.severity is Severity.ERROR)
