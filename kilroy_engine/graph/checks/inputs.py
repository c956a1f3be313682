"""Rules about the inputs that a pipeline declares."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from kilroy_engine.graph.attributes import FALSE_WORDS, TRUE_WORDS
from kilroy_engine.graph.checks.subject import Subject, did_you_mean, error, warning
from kilroy_engine.graph.diagnostics import Diagnostic
from kilroy_engine.graph.inputs import FACETS, DeclaredInput, InputType, declared_inputs, facet_of
from kilroy_engine.graph.model import Attribute

_WORDS: Mapping[str, tuple[str, ...]] = {
    "type": tuple(InputType),
    "required": tuple(sorted(TRUE_WORDS | FALSE_WORDS)),
    "secret": tuple(sorted(TRUE_WORDS | FALSE_WORDS)),
}


def input_facet(subject: Subject) -> Iterator[Diagnostic]:
    """An attribute ``input.<name>.<facet>`` names a declared input and a known facet, and its value fits the facet."""
    names = [declared.name for declared in declared_inputs(subject.graph)]
    report = warning("input_facet")
    for key, attribute in subject.graph.attributes.items():
        named = facet_of(key)
        if named is None:
            continue
        name, facet = named
        if facet not in FACETS:
            fix = did_you_mean(facet, FACETS, otherwise=f"it is one of {', '.join(FACETS)}")
            yield report.on_graph(f"graph: nothing reads '{facet}' of an input", attribute=attribute, fix=fix)
        elif name not in names:
            fix = did_you_mean(name, names, otherwise=f'add it: inputs="{", ".join([*names, name])}"')
            yield report.on_graph(f"graph: the list of inputs does not name '{name}'", attribute=attribute, fix=fix)
        elif facet in _WORDS and attribute.value.strip().lower() not in _WORDS[facet]:
            words = ", ".join(_WORDS[facet]) if facet == "type" else "true or false"
            message = f"graph: {key}='{attribute.value.strip()[:60]}' is ignored: it takes {words}"
            yield report.on_graph(
                message, attribute=attribute, fix=did_you_mean(attribute.value, _WORDS[facet], otherwise=words)
            )


def input_default(subject: Subject) -> Iterator[Diagnostic]:
    """The default of an input fits the input's type, and an input of type ``choice`` has choices."""
    report = error("input_default")
    for declared in declared_inputs(subject.graph):
        if declared.type is InputType.CHOICE and not declared.choices:
            yield report.on_graph(
                f"graph: there is nothing to choose from for the input '{declared.name}'",
                attribute=_attribute(subject, declared, "type"),
                fix=f'list them: input.{declared.name}.choices="a, b"',
            )
        elif (problem := _problem(declared)) is not None:
            yield report.on_graph(
                f"graph: the default of the input '{declared.name}' does not fit: {problem}",
                attribute=_attribute(subject, declared, "default"),
                fix="correct it, or leave it out",
            )


def _problem(declared: DeclaredInput) -> str | None:
    if declared.default is None:
        return None
    try:
        declared.require_name(declared.default)
        if not declared.secret:
            declared.read(declared.default)
    except ValueError as problem:
        return str(problem)
    return None


def _attribute(subject: Subject, declared: DeclaredInput, facet: str) -> Attribute | None:
    return subject.graph.attributes.get(f"input.{declared.name}.{facet}")


RULES = (input_facet, input_default)
