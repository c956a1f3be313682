"""From the graph as written to the graph as run: prompt files, model stylesheet, ``$`` variables (Spec 9.1, 9.2). Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from difflib import get_close_matches

from kilroy_engine.graph.diagnostics import Diagnostic, Severity
from kilroy_engine.graph.inputs import declared_inputs
from kilroy_engine.graph.model import Attribute, Edge, Graph, Node
from kilroy_engine.graph.node_types import CALL_TYPES
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

    Without ``read_text`` prompt files stay unread.
    """
    return expand_variables(complete(graph, read_text), inputs or {})


def complete(graph: Graph, read_text: ReadText | None = None) -> Graph:
    """The graph with prompt files read and the stylesheet applied; variables are still as written."""
    if read_text is not None:
        graph = _read_prompt_files(graph, read_text)
    return apply_stylesheet(graph)


def expand_variables(graph: Graph, inputs: Mapping[str, str], *, base_sha: str = "") -> Graph:
    """The graph with the variables in prompts, questions, labels (of nodes and edges) and arguments of calls replaced.

    ``$goal`` is the graph's goal, ``$input.<key>`` a run input, ``$name`` a graph attribute of the pipeline's own (one that
    the engine gives no meaning), ``$base_sha`` the commit that a git run began at, ``$$`` a dollar sign. What is unknown stays
    as written and is reported by validation. Tool commands are never rewritten.
    """
    variables = _known_variables(graph, inputs, base_sha)
    unknown: dict[str, list[tuple[Node | Edge, Attribute]]] = {}
    nodes = {n.id: replace(n, attributes=_expanded(n, variables, unknown)) for n in graph.nodes.values()}
    edges = tuple(replace(edge, attributes=_expanded(edge, variables, unknown)) for edge in graph.edges)
    # A declared input has its value when the run starts, or the run does not start.
    known_later = _RUN_TIME | {_INPUT + declared.name for declared in declared_inputs(graph)}
    findings = [
        _unknown(name, places, (*variables, *known_later))
        for name, places in unknown.items()
        if not name.isupper() and name not in known_later  # names in capitals are the shell's, for the agent to read
    ]
    return replace(graph, nodes=nodes, edges=edges, findings=(*graph.findings, *findings))


def resolve_types(graph: Graph, known_types: Collection[str]) -> Graph:
    """The graph in which a node of a type that nobody serves has the type of its shape (Spec 4.2).

    After validation, which has warned about it by the rule ``type_known``: from here on ``Node.type`` is what runs.
    """
    nodes = dict(graph.nodes)
    for node in graph.nodes.values():
        if node.type not in known_types:
            attributes = {key: attribute for key, attribute in node.attributes.items() if key != "type"}
            nodes[node.id] = replace(node, attributes=attributes)
    return replace(graph, nodes=nodes)


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


def _known_variables(graph: Graph, inputs: Mapping[str, str], base_sha: str) -> Mapping[str, str]:
    """Name to value. What is said about an input is no variable."""
    own = {
        key: attribute.value
        for key, attribute in graph.attributes.items()
        if key not in GRAPH_ATTRIBUTES and not key.startswith(_INPUT)
    }
    of_run = {"goal": graph.goal, "base_sha": base_sha}
    return {
        **own,
        **{_INPUT + key: value for key, value in inputs.items()},
        **{name: value for name, value in of_run.items() if value},
    }


def _expanded(
    owner: Node | Edge, variables: Mapping[str, str], unknown: dict[str, list[tuple[Node | Edge, Attribute]]]
) -> Mapping[str, Attribute]:
    """The owner's attributes with variables replaced; adds to ``unknown`` where an unknown name stands."""
    changed: dict[str, Attribute] = {}
    for key in _expanded_keys(owner):
        attribute = owner.attributes.get(key)
        if attribute is None or "$" not in attribute.value:
            continue
        found = _Variables(variables)
        changed[key] = replace(attribute, value=found.expand(attribute.value))
        for name in dict.fromkeys(found.unknown):
            unknown.setdefault(name, []).append((owner, attribute))
    return {**owner.attributes, **changed} if changed else owner.attributes


def _expanded_keys(owner: Node | Edge) -> Iterator[str]:
    yield from ("prompt", "label", "question")
    if isinstance(owner, Node) and owner.type in CALL_TYPES:
        yield from (key for key in owner.attributes if key.startswith(PARAMETER_PREFIX))


def _unknown(name: str, places: list[tuple[Node | Edge, Attribute]], known: Collection[str]) -> Diagnostic:
    """One warning per unknown name, at its first place."""
    owner, attribute = places[0]
    where = f"node '{owner.id}'" if isinstance(owner, Node) else f"edge {owner}"
    near = get_close_matches(name, ["goal", *known], n=1, cutoff=0.75)
    if name == "goal":
        message, fix = "the graph has no goal", 'set it: graph [goal="…"]'
    else:
        message = "no such input is given" if name.startswith(_INPUT) else "no such variable"
        otherwise = f"declare it as an attribute of the graph, or write $${name} for a dollar sign"
        fix = f"did you mean ${near[0]}?" if near else otherwise
    others = f" (also in {len(places) - 1} more)" if len(places) > 1 else ""
    return Diagnostic(
        "variable_known",
        Severity.WARNING,
        f"{where}: ${name} in its {attribute.key} stays as it is: {message}{others}",
        attribute.position.line,
        attribute.position.column,
        node=owner.id if isinstance(owner, Node) else "",
        edge=str(owner) if isinstance(owner, Edge) else "",
        fix=fix,
    )
