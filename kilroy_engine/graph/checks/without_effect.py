"""Rules about known attributes that have no effect at the place where they are written."""

from __future__ import annotations

from collections.abc import Iterator

from kilroy_engine.graph.checks.subject import Subject, Written, info
from kilroy_engine.graph.diagnostics import Diagnostic
from kilroy_engine.graph.model import Position
from kilroy_engine.graph.node_types import CONDITIONAL, NODE_TYPES
from kilroy_engine.graph.vocabulary import ATTRIBUTES, PARAMETER, PARAMETER_PREFIX, AttributeOwner, Meaning

_SAID_ELSEWHERE = frozenset({("prompt", CONDITIONAL), ("prompt_file", CONDITIONAL)})
"""(attribute, node type) that another rule reports: ``prompt_on_conditional_node``."""


def attribute_without_effect(subject: Subject) -> Iterator[Diagnostic]:
    """An attribute has no effect if nothing reads it yet, or if only other types of node read it.

    A default of several nodes, or an attribute of a chain of edges, is reported if it has no effect on any of them.
    """
    report = info("attribute_without_effect")
    for places in _written_together(subject):
        first = places[0]
        meaning = _meaning(first)
        if meaning is None or not first.attribute.value.strip():
            continue
        name = first.attribute.written_as or first.attribute.key
        if meaning.without_effect:
            message = f"{first.where}: {name} has no effect, nothing reads it yet"
            yield report.on_attribute(first, message, "remove it, or keep it for another engine")
        elif not any(_is_read(subject, meaning, written) for written in places):
            yield report.on_attribute(first, _elsewhere(subject, first, name), _where_instead(first, meaning))


def _written_together(subject: Subject) -> list[list[Written]]:
    """One list for each attribute of the text, with all its owners. Values from the stylesheet or the graph are left out."""
    graph = subject.graph
    sheet = graph.attributes.get("model_stylesheet")
    together: dict[tuple[AttributeOwner, str, Position], list[Written]] = {}
    for attribute in graph.attributes.values():
        together[AttributeOwner.GRAPH, attribute.key, attribute.position] = [Written(attribute)]
    for node in graph.nodes.values():
        for attribute in node.attributes.values():
            if attribute is graph.attributes.get(attribute.key) or (sheet and attribute.position == sheet.position):
                continue
            place = (AttributeOwner.NODE, attribute.key, attribute.position)
            together.setdefault(place, []).append(Written(attribute, AttributeOwner.NODE, node=node))
    for edge in graph.edges:
        for attribute in edge.attributes.values():
            place = (AttributeOwner.EDGE, attribute.key, attribute.position)
            together.setdefault(place, []).append(Written(attribute, AttributeOwner.EDGE, edge=edge))
    return list(together.values())


def _meaning(written: Written) -> Meaning | None:
    key = written.attribute.key
    if written.owner is AttributeOwner.NODE and key.startswith(PARAMETER_PREFIX):
        return PARAMETER
    return ATTRIBUTES[written.owner].get(key)


def _is_read(subject: Subject, meaning: Meaning, written: Written) -> bool:
    type_name = _type_at(subject, written)
    return meaning.is_read_at(type_name) or (written.attribute.key, type_name) in _SAID_ELSEWHERE


def _type_at(subject: Subject, written: Written) -> str:
    """The type of the attribute's node, or of the node that its edge leaves; empty for an attribute of the graph."""
    node_id = written.node.id if written.node else written.edge.source if written.edge else ""
    return subject.types[node_id] if node_id else ""


def _elsewhere(subject: Subject, written: Written, name: str) -> str:
    if written.edge:
        return f"{written.where}: {name} has no effect on a branch of '{written.edge.source}': all of them are taken"
    return f"{written.where}: {name} has no effect on a node of type {_type_at(subject, written)}"


def _where_instead(written: Written, meaning: Meaning) -> str:
    if written.edge:
        return "remove it; to choose one way, leave a node with shape=diamond"
    return f"remove it; it is read by {', '.join(name for name in NODE_TYPES if name in (meaning.readers or ()))}"


RULES = (attribute_without_effect,)
