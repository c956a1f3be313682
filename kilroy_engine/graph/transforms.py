"""From the graph as written to the graph as run: prompt files, model stylesheet, ``$`` variables (Spec 9.1, 9.2). Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from difflib import get_close_matches

from kilroy_engine.graph.diagnostics import Diagnostic, Severity
from kilroy_engine.graph.model import CALL_TYPES, Attribute, Graph, Node
from kilroy_engine.graph.stylesheet import apply_stylesheet
from kilroy_engine.graph.vocabulary import GRAPH_ATTRIBUTES, PARAMETER_PREFIX

_VARIABLE = re.compile(r"\$(?:(?P<dollar>\$)|(?P<name>[A-Za-z_][A-Za-z0-9_]*(?:[.-][A-Za-z0-9_]+)*))")
_INPUT = "input."
_RUN_TIME = frozenset({"base_sha"})
"""Names that get their value when the run starts."""

ReadText = Callable[[str], str]
"""Gives the text of a file named by ``prompt_file``; raises OSError or ValueError where it cannot."""


def prepare(graph: Graph, *, inputs: Mapping[str, str] | None = None, read_text: ReadText | None = None) -> Graph:
    """The graph with prompt files read, the stylesheet applied and variables replaced: in prompts, labels and arguments.

    ``$goal`` is the graph's goal, ``$input.<key>`` a run input, ``$name`` a graph attribute of the pipeline's own (one that
    the engine gives no meaning), ``$$`` a dollar sign. What is unknown stays as written and is reported by validation. Tool
    commands are never rewritten. Without ``read_text`` prompt files stay unread.
    """
    if read_text is not None:
        graph = _read_prompt_files(graph, read_text)
    graph = apply_stylesheet(graph)
    return _expand_variables(graph, inputs or {})


def settle_types(graph: Graph, known_types: Collection[str]) -> Graph:
    """The graph in which a node of a type that nobody serves has the type of its shape (Spec 4.2).

    After validation, which has warned about it by the rule ``type_known``: from here on ``Node.type`` is what runs.
    """
    nodes = dict(graph.nodes)
    for node in graph.nodes.values():
        if node.type not in known_types:
            attributes = {key: attribute for key, attribute in node.attributes.items() if key != "type"}
            nodes[node.id] = replace(node, attributes=attributes)
    return replace(graph, nodes=nodes)


def declared_inputs(graph: Graph) -> tuple[str, ...]:
    """Names of the inputs that the graph attribute ``inputs`` declares, a comma list as in Kilroy."""
    return tuple(name.strip() for name in graph.text("inputs").split(",") if name.strip())


def _read_prompt_files(graph: Graph, read_text: ReadText) -> Graph:
    nodes = dict(graph.nodes)
    findings: list[Diagnostic] = []
    for node in graph.nodes.values():
        named = node.attributes.get("prompt_file")
        if named is None or not named.value.strip() or "prompt" in node.attributes:
            continue  # both together are reported by the rule prompt_file_conflict
        try:
            text = read_text(named.value.strip())
        except (OSError, ValueError) as error:
            findings.append(_unreadable(node, named, error))
            continue
        attributes = {key: attribute for key, attribute in node.attributes.items() if key != "prompt_file"}
        attributes["prompt"] = replace(named, key="prompt", value=text)
        nodes[node.id] = replace(node, attributes=attributes)
    return replace(graph, nodes=nodes, findings=(*graph.findings, *findings))


def _unreadable(node: Node, named: Attribute, error: Exception) -> Diagnostic:
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    place = named.value_position
    return Diagnostic(
        "prompt_file_readable",
        Severity.ERROR,
        f"node '{node.id}': the prompt file '{named.value}' cannot be read: {reason}",
        place.line,
        place.column,
        node=node.id,
        fix="name an existing text file, relative to the pipeline's folder",
    )


@dataclass(slots=True)
class _Variables:
    """The known variables, and which unknown ones came up in the text at hand."""

    values: Mapping[str, str]
    unknown: list[str] = field(default_factory=list[str])

    def expand(self, text: str) -> str:
        return _VARIABLE.sub(self._replace, text) if "$" in text else text

    def _replace(self, match: re.Match[str]) -> str:
        if match["dollar"]:
            return "$"
        written = name = match["name"]
        while name:
            # "$input.spec.md" may be the input "spec.md", or the input "spec" before a file ending.
            if name in self.values:
                return self.values[name] + written[len(name) :]
            cut = max(name.rfind("."), name.rfind("-"))
            name = name[:cut] if cut > 0 else ""
        self.unknown.append(written)
        return match[0]


def _expand_variables(graph: Graph, inputs: Mapping[str, str]) -> Graph:
    own = {key: attribute.value for key, attribute in graph.attributes.items() if key not in GRAPH_ATTRIBUTES}
    values = {**own, **{_INPUT + key: value for key, value in inputs.items()}}
    if graph.goal:
        values["goal"] = graph.goal
    nodes: dict[str, Node] = {}
    unknown: dict[str, list[tuple[Node, Attribute]]] = {}
    for node in graph.nodes.values():
        changed: dict[str, Attribute] = {}
        for key in _expanded_keys(node):
            attribute = node.attributes.get(key)
            if attribute is None or "$" not in attribute.value:
                continue
            variables = _Variables(values)
            changed[key] = replace(attribute, value=variables.expand(attribute.value))
            for name in dict.fromkeys(variables.unknown):
                unknown.setdefault(name, []).append((node, attribute))
        nodes[node.id] = replace(node, attributes={**node.attributes, **changed}) if changed else node
    # Names in capitals are the shell's, for the agent to read.
    findings = [
        _unknown(name, places, values, declared_inputs(graph))
        for name, places in unknown.items()
        if not name.isupper() and name not in _RUN_TIME
    ]
    return replace(graph, nodes=nodes, findings=(*graph.findings, *findings))


def _expanded_keys(node: Node) -> Iterator[str]:
    yield from ("prompt", "label")
    if node.type in CALL_TYPES:
        yield from (key for key in node.attributes if key.startswith(PARAMETER_PREFIX))


def _unknown(
    name: str, places: list[tuple[Node, Attribute]], values: Mapping[str, str], declared: tuple[str, ...]
) -> Diagnostic:
    """One warning per unknown name, at its first place."""
    node, attribute = places[0]
    near = get_close_matches(name, ["goal", *values], n=1, cutoff=0.75)
    if name == "goal":
        message, fix = "the graph has no goal", 'set it: graph [goal="…"]'
    elif name.startswith(_INPUT) and name.removeprefix(_INPUT) in declared:
        message, fix = "no value is given for this declared input", "give it when the run is started"
    else:
        message = "no such input is given" if name.startswith(_INPUT) else "no such variable"
        otherwise = f"declare it as an attribute of the graph, or write $${name} for a dollar sign"
        fix = f"did you mean ${near[0]}?" if near else otherwise
    others = f" (also in {len(places) - 1} more)" if len(places) > 1 else ""
    return Diagnostic(
        "variable_known",
        Severity.WARNING,
        f"node '{node.id}': ${name} in its {attribute.key} stays as it is: {message}{others}",
        attribute.position.line,
        attribute.position.column,
        node=node.id,
        fix=fix,
    )
