"""The rules and transforms that installed distributions add to every pipeline, and the check that their handlers can be loaded.

A broken plug-in refuses the run: a rule that cannot run must not count as a rule that found nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from importlib.metadata import EntryPoint

from kilroy_engine.errors import UnknownHandler
from kilroy_engine.graph.checks.subject import Rule, Subject, error
from kilroy_engine.graph.checks.validation import located, validate
from kilroy_engine.graph.diagnostics import Diagnostic, Severity
from kilroy_engine.graph.model import Graph
from kilroy_engine.handlers.node_types import ENTRY_POINTS as HANDLERS
from kilroy_engine.handlers.node_types import known_types
from kilroy_engine.handlers.registry import HandlerRegistry
from kilroy_engine.plugins import distribution_of, plugins

RULES = "kilroy_engine.rules"
"""Entry point group of lint rules (Spec 7.4). The object takes a Subject and returns diagnostics."""
TRANSFORMS = "kilroy_engine.transforms"
"""Entry point group of transforms (Spec 9). The object takes a Graph and returns a Graph."""


def with_plugin_transforms(graph: Graph) -> Graph:
    """The graph after the plug-ins' transforms, applied in the order of their names. A transform that fails becomes a finding
    of the graph."""
    for name, plugin in sorted(plugins(TRANSFORMS).items()):
        try:
            changed: object = plugin.load()(graph)
        except Exception as failed:  # noqa: BLE001 - a plug-in may raise anything; the finding names its distribution
            changed = failed
        if isinstance(changed, Graph):
            graph = changed
            continue
        failed = changed if isinstance(changed, Exception) else TypeError(f"it answers {type(changed).__name__}, and no Graph")
        graph = replace(graph, findings=(*graph.findings, _broken("transform", name, plugin, failed)))
    return graph


def plugin_rules() -> tuple[Rule, ...]:
    """The plug-ins' rules, in the order of their names."""
    return tuple(_guarded(name, plugin) for name, plugin in sorted(plugins(RULES).items()))


def findings_with_plugins(graph: Graph) -> tuple[Diagnostic, ...]:
    """The findings of built-in and plug-in rules in a graph after all transforms. Called by the checks of child pipelines and
    by ``kilroy validate``."""
    return validate(graph, known_types=known_types(), extra_rules=plugin_rules())


def handler_findings(graph: Graph) -> tuple[Diagnostic, ...]:
    """A diagnostic for every node whose type belongs to a plug-in that cannot be loaded."""
    registry = HandlerRegistry()
    found: list[Diagnostic] = []
    for node in graph.nodes.values():
        if node.type in plugins(HANDLERS):
            try:
                registry.resolve(node)
            except UnknownHandler as broken:
                fix = "install a working version where the run takes place, or uninstall it"
                place = node.attributes.get("type")
                found.append(error("handler_loadable").on_node(node, str(broken), attribute=place, fix=fix))
    return located(graph, found)


def _guarded(name: str, plugin: EntryPoint) -> Rule:
    def rule(subject: Subject) -> Iterator[Diagnostic]:
        try:
            yield from tuple(plugin.load()(subject))
        except Exception as failed:  # noqa: BLE001 - the same
            yield _broken("rule", name, plugin, failed)

    return rule


def _broken(kind: str, name: str, plugin: EntryPoint, failed: Exception) -> Diagnostic:
    return Diagnostic(
        f"{kind}_plugin",
        Severity.ERROR,
        f"the {kind} {name} of {distribution_of(plugin)} does not work: {type(failed).__name__}: {failed}",
        fix="install a working version of it, or uninstall it",
    )
