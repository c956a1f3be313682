"""Rules about the names and values of attributes, and about the stylesheet."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping

from kilroy_engine.errors import StylesheetSyntaxError
from kilroy_engine.graph.attributes import FALSE_WORDS, TRUE_WORDS, read_duration_s, read_int, read_number
from kilroy_engine.graph.checks.subject import Subject, did_you_mean, error, info, warning
from kilroy_engine.graph.diagnostics import Diagnostic
from kilroy_engine.graph.model import Position
from kilroy_engine.graph.node_types import SHAPE_TO_TYPE
from kilroy_engine.graph.source import position_at, position_in_value
from kilroy_engine.graph.stylesheet import Stylesheet
from kilroy_engine.graph.vocabulary import (
    ATTRIBUTES,
    ERROR_POLICIES,
    FIDELITY_MODES,
    JOIN_POLICIES,
    MISTAKEN,
    PARAMETER_PREFIX,
    RETRY_POLICIES,
    STYLE_PROPERTIES,
    AttributeOwner,
    ValueKind,
)

_CHOICES: Mapping[str, tuple[str, ...]] = {
    "join_policy": JOIN_POLICIES,
    "error_policy": ERROR_POLICIES,
    "retry_policy": RETRY_POLICIES,
}
_FIDELITY_KEYS = ("fidelity", "default_fidelity", "context_fidelity_default")


def attribute_value(subject: Subject) -> Iterator[Diagnostic]:
    """The value of an attribute fits its kind or its list of words. The engine ignores any other value."""
    for written in subject.attributes:
        key, value = written.attribute.key, written.attribute.value.strip()
        meaning = ATTRIBUTES[written.owner].get(key)
        kind = meaning.kind if meaning else ValueKind.TEXT
        if value and not _fits(value, kind):
            message = f"{written.where}: {key}='{value[:60]}' is ignored: it takes {kind}"
            yield warning("attribute_value").on_attribute(written, message, f"write {kind}")
        elif key in _CHOICES and value not in _CHOICES[key]:
            message = f"{written.where}: {key}='{value[:60]}' is ignored: it takes one of {', '.join(_CHOICES[key])}"
            fix = did_you_mean(value, _CHOICES[key], otherwise="choose one of them")
            yield warning("attribute_value").on_attribute(written, message, fix)


def _fits(value: str, kind: ValueKind) -> bool:
    match kind:
        case ValueKind.TEXT:
            return True
        case ValueKind.INTEGER:
            return read_int(value, default=None) is not None
        case ValueKind.COUNT:
            return (read_int(value, default=None) or 0) >= 0 and read_int(value, default=None) is not None
        case ValueKind.POSITIVE:
            return (read_int(value, default=None) or 0) > 0
        case ValueKind.NUMBER:
            return read_number(value, default=None) is not None
        case ValueKind.AMOUNT:
            return 0 < (read_number(value, default=None) or 0) < math.inf
        case ValueKind.BOOLEAN:
            return value.lower() in TRUE_WORDS | FALSE_WORDS
        case ValueKind.DURATION:
            return read_duration_s(value, default=None) is not None


def attribute_known(subject: Subject) -> Iterator[Diagnostic]:
    """An unknown attribute with nearly a known name is a slip. Other unknown names may belong to another program."""
    fixes: dict[tuple[AttributeOwner, str], str] = {}
    for written in subject.attributes:
        key, known = written.attribute.key, ATTRIBUTES[written.owner]
        if key in known or (written.owner is AttributeOwner.NODE and key.startswith(PARAMETER_PREFIX)):
            continue
        if (written.owner, key) not in fixes:
            meant = MISTAKEN[written.owner].get(key)
            fixes[written.owner, key] = f"did you mean '{meant}'?" if meant else _slip(key, known)
        if fix := fixes[written.owner, key]:
            message = f"{written.where}: nothing reads the attribute '{written.attribute.written_as or key}'"
            yield warning("attribute_known").on_attribute(written, message, fix)


def _slip(key: str, known: Iterable[str]) -> str:
    # A short name is near to some known name by chance, and Graphviz's names are no slips.
    if len(key) < 5 or key in _GRAPHVIZ:
        return ""
    near = [name for name in known if abs(len(name) - len(key)) <= 2 and len(name) >= 5]
    question = did_you_mean(key, near)
    meant = question.removeprefix("did you mean '").removesuffix("'?")
    return question if meant and _distance_is_small(key, meant) else ""


def _distance_is_small(key: str, meant: str) -> bool:
    """Whether the two names differ in at most two letters, in any order: ``goal_gates``, ``max_retires``, ``promtp_file``."""
    rest = list(meant.casefold().replace("-", "_"))
    extra = 0
    for char in key.casefold().replace("-", "_"):
        if char in rest:
            rest.remove(char)
        else:
            extra += 1
    return extra + len(rest) <= 2


_GRAPHVIZ = frozenset(
    {"rankdir", "ranksep", "nodesep", "bgcolor", "fontname", "fontsize", "fontcolor", "fillcolor", "color", "style", "penwidth"}
    | {"margin", "width", "height", "tooltip", "xlabel", "headlabel", "taillabel", "labelloc", "labeljust", "labelangle"}
    | {"arrowhead", "arrowtail", "arrowsize", "constraint", "minlen", "compound", "concentrate", "ordering", "layout", "rank"}
    | {
        "overlap",
        "peripheries",
        "orientation",
        "regular",
        "sides",
        "group",
        "cluster",
        "pencolor",
        "newrank",
        "splines",
        "href",
    }
)
"""Attributes of Graphviz."""


def attribute_alias(subject: Subject) -> Iterator[Diagnostic]:
    """An attribute is written under another of its names. Reported once for each name."""
    report = info("attribute_alias")
    seen: set[tuple[AttributeOwner, str]] = set()
    for written in subject.attributes:
        attribute = written.attribute
        name = attribute.written_as
        if name and name != attribute.key and (written.owner, name) not in seen:
            seen.add((written.owner, name))
            yield report.on_attribute(written, f"'{name}' is read as '{attribute.key}'", f"write {attribute.key}")
    sheet = subject.stylesheet
    names: set[str] = set()
    for declaration in sheet.declarations() if isinstance(sheet, Stylesheet) else ():
        if declaration.written_as != declaration.property and declaration.written_as not in names:
            names.add(declaration.written_as)
            yield report.at(
                _in_stylesheet(subject, declaration.offset),
                f"the stylesheet's '{declaration.written_as}' is read as '{declaration.property}'",
                fix=f"write {declaration.property}",
            )


def fidelity_valid(subject: Subject) -> Iterator[Diagnostic]:
    """Spec 7.2: a fidelity is one of the six modes."""
    for written in subject.attributes:
        value = written.attribute.value.strip()
        if written.attribute.key in _FIDELITY_KEYS and value and value.lower() not in FIDELITY_MODES:
            yield warning("fidelity_valid").on_attribute(
                written,
                f"{written.where}: {written.attribute.key}='{value}' is no fidelity; compact is used",
                did_you_mean(value, FIDELITY_MODES, otherwise=f"choose one of {', '.join(FIDELITY_MODES)}"),
            )


def shape_known(subject: Subject) -> Iterator[Diagnostic]:
    """A node with a shape that means no type runs as a box (Spec 4.2: the default handler)."""
    for node in subject.graph.nodes.values():
        is_typed = node.has("type") and node.type in subject.known_types
        if node.shape not in SHAPE_TO_TYPE and not is_typed:
            yield warning("shape_known").on_node(
                node,
                f"node '{node.id}': the shape '{node.shape}' has no meaning here and is treated as a box",
                attribute=node.attributes.get("shape"),
                fix=did_you_mean(node.shape, SHAPE_TO_TYPE, otherwise="use box, or set type"),
            )


def type_known(subject: Subject) -> Iterator[Diagnostic]:
    """Spec 7.2: a node whose type has no handler runs as the type of its shape."""
    for node in subject.graph.nodes.values():
        if node.has("type") and node.type not in subject.known_types:
            yield warning("type_known").on_node(
                node,
                f"node '{node.id}': no handler serves the type '{node.type}'; it runs as {node.type_by_shape}, by its shape",
                attribute=node.attributes["type"],
                fix=did_you_mean(node.type, sorted(subject.known_types), otherwise="remove it, or install the handler"),
            )


def stylesheet_syntax(subject: Subject) -> Iterator[Diagnostic]:
    """Spec 7.2: the stylesheet parses."""
    failure = subject.stylesheet
    if isinstance(failure, StylesheetSyntaxError):
        lines = subject.graph.text("model_stylesheet").split("\n")
        offset = sum(len(line) + 1 for line in lines[: failure.line - 1]) + failure.column - 1
        yield error("stylesheet_syntax").at(
            _in_stylesheet(subject, offset), f"model_stylesheet: {failure.message}", fix=failure.hint
        )


def stylesheet_property(subject: Subject) -> Iterator[Diagnostic]:
    """A stylesheet sets known properties only. The engine ignores any other property."""
    sheet = subject.stylesheet
    for declaration in sheet.declarations() if isinstance(sheet, Stylesheet) else ():
        if declaration.property not in STYLE_PROPERTIES:
            yield warning("stylesheet_property").at(
                _in_stylesheet(subject, declaration.offset),
                f"model_stylesheet: the property '{declaration.property}' is ignored",
                fix=did_you_mean(declaration.property, STYLE_PROPERTIES, otherwise=f"it knows {', '.join(STYLE_PROPERTIES)}"),
            )


def stylesheet_selector(subject: Subject) -> Iterator[Diagnostic]:
    """A stylesheet's rule for an id names an existing node."""
    sheet = subject.stylesheet
    for rule in sheet.rules if isinstance(sheet, Stylesheet) else ():
        if rule.selector.startswith("#") and rule.selector[1:] not in subject.graph.nodes:
            yield warning("stylesheet_selector").at(
                _in_stylesheet(subject, rule.offset),
                f"model_stylesheet: no node has the id of '{rule.selector}'",
                fix=did_you_mean(rule.selector[1:], subject.graph.nodes, otherwise="remove the rule"),
            )


def _in_stylesheet(subject: Subject, offset: int) -> Position:
    attribute = subject.graph.attributes["model_stylesheet"]
    if not subject.lines:
        return position_at(attribute.value, offset)
    return position_in_value(subject.lines, attribute, offset)


RULES = (
    attribute_value,
    attribute_known,
    attribute_alias,
    fidelity_valid,
    shape_known,
    type_known,
    stylesheet_syntax,
    stylesheet_property,
    stylesheet_selector,
)
