"""Transforms a parsed graph into the graph to run: prompt files, model stylesheet, ``$`` variables (Spec 9.1, 9.2). Pure."""

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
"""Variables that have their value only when the run starts."""

ReadText = Callable[[str], str]
"""Reads the file that a ``prompt_file`` names. Raises OSError or ValueError where it cannot be read."""


def prepare(graph: Graph, *, inputs: Mapping[str, str] | None = None, read_text: ReadText | None = None) -> Graph:
    """The graph after :func:`complete` and :func:`expand_variables`. Called for every pipeline before its validation.

    ``inputs`` are the values of the inputs by name. Without ``read_text`` prompt files stay unread.
    """
    return expand_variables(complete(graph, read_text), inputs or {})


def complete(graph: Graph, read_text: ReadText | None = None) -> Graph:
    """The graph with prompt files read and the stylesheet applied. Variables stay as written."""
    if read_text is not None:
        graph = _read_prompt_files(graph, read_text)
    return apply_stylesheet(graph)


def expand_variables(graph: Graph, inputs: Mapping[str, str], *, base_sha: str = "") -> Graph:
    """The graph with the variables in prompts, questions, labels (of nodes and edges) and arguments of calls replaced.

    ``$goal`` is the graph's goal, ``$input.<key>`` an input of the run, ``$base_sha`` the commit at which a git run began, and
    ``$$`` a dollar sign. ``$name`` is a graph attribute that the engine itself does not read. An unknown variable stays as
    written, and validation reports it. Tool commands are never rewritten.
    """
    variables = _known_variables(graph, inputs, base_sha)
    unknown: dict[str, list[tuple[Node | Edge, Attribute]]] = {}
    nodes = {n.id: replace(n, attributes=_expanded(n, variables, unknown)) for n in graph.nodes.values()}
    edges = tuple(replace(edge, attributes=_expanded(edge, variables, unknown)) for edge in graph.edges)
    # A declared input is no unknown variable: a run starts only with a value for it.
    known_later = _RUN_TIME | {_INPUT + declared.name for declared in declared_inputs(graph)}
    findings = [
        _unknown(name, places, (*variables, *known_later))
        for name, places in unknown.items()
        if not name.isupper() and name not in known_later  # names in capitals are environment variables, which the agent reads
    ]
    return replace(graph, nodes=nodes, edges=edges, findings=(*graph.findings, *findings))


def resolve_types(graph: Graph, known_types: Collection[str]) -> Graph:
    """The graph in which each node without a handler for its type has the type of its shape (Spec 4.2).

    Called after validation, whose rule ``type_known`` warns about such nodes. Then ``Node.type`` is the type that runs.
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
            continue  # the rule prompt_file_conflict reports a node with both attributes
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
    """Replaces the variables in one text. ``values`` are the known variables; ``unknown`` collects the other names."""

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
    """Variable -> value. Graph attributes ``input.<name>.<facet>`` describe inputs and are not variables."""
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
    """The owner's attributes with variables replaced. Adds each unknown variable with its place to ``unknown``."""
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
    """The warning about the unknown variable ``name``, at the first of its ``places``."""
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
