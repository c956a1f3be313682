"""What installed distributions add to the checks and transforms of every pipeline, and whether their handlers can be loaded.

A broken one refuses the run: a rule that cannot be asked must not pass for one that has agreed.
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
"""Entry point group of lint rules (Spec 7.4); the object takes a Subject and gives diagnostics."""
TRANSFORMS = "kilroy_engine.transforms"
"""Entry point group of transforms (Spec 9); the object takes a Graph and gives a Graph."""


def with_plugin_transforms(graph: Graph) -> Graph:
    """The graph after the transforms of plug-ins, in the order of their names. One that fails is a finding."""
    for name, plugin in sorted(plugins(TRANSFORMS).items()):
        try:
            changed: object = plugin.load()(graph)
        except Exception as failed:  # noqa: BLE001 - code of others may raise anything; the finding says whose it is
            changed = failed
        if isinstance(changed, Graph):
            graph = changed
            continue
        failed = changed if isinstance(changed, Exception) else TypeError(f"it answers {type(changed).__name__}, and no Graph")
        graph = replace(graph, findings=(*graph.findings, _broken("transform", name, plugin, failed)))
    return graph


def plugin_rules() -> tuple[Rule, ...]:
    """The rules of plug-ins, in the order of their names."""
    return tuple(_guarded(name, plugin) for name, plugin in sorted(plugins(RULES).items()))


def findings_with_plugins(graph: Graph) -> tuple[Diagnostic, ...]:
    """What the built-in rules and those of plug-ins find in a graph with all its transforms."""
    return validate(graph, known_types=known_types(), extra_rules=plugin_rules())


def handler_findings(graph: Graph) -> tuple[Diagnostic, ...]:
    """A diagnostic for every node whose type a plug-in serves that cannot be loaded."""
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
