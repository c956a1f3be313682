"""Graphs as text for pictures, and the identity of printing and reading."""

from __future__ import annotations

import re
import shutil
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kilroy_engine.graph.dot.parse import parse_dot
from kilroy_engine.graph.model import Attribute, Edge, Graph, Node, Position
from kilroy_engine.graph.render import STATUS_COLORS, to_dot, to_mermaid

NOWHERE = Position(1, 1)
ids = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,6}([.-][A-Za-z0-9_]{1,4}){0,2}", fullmatch=True)
keys = st.from_regex(r"[a-z_]{1,8}(\.[a-z_]{1,5}){0,2}", fullmatch=True).filter(
    lambda key: (
        key not in ("class", "label", "script", "handler", "node_type", "model", "provider", "llm_prompt", "default_max_retry")
    )
)
# A carriage return before a newline is read as the newline alone, as line ends of any editor are.
values = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r"), max_size=30)


def _attributes(written: dict[str, str]) -> dict[str, Attribute]:
    return {key: Attribute(key, value, NOWHERE, NOWHERE, written_as=key) for key, value in written.items()}


@st.composite
def graphs(draw: st.DrawFn) -> Graph:
    """Any graph that a text can describe, with declared nodes and classes of subgraphs."""
    nodes: dict[str, Node] = {}
    for node_id in draw(st.lists(ids, min_size=1, max_size=6, unique=True)):
        classes = draw(st.lists(st.from_regex(r"[a-z0-9](-?[a-z0-9]){0,4}", fullmatch=True), max_size=3, unique=True))
        written = draw(st.dictionaries(keys, values, max_size=3))
        own = draw(st.integers(0, len(classes)))
        if own:
            written["class"] = ", ".join(classes[-own:])
        nodes[node_id] = Node(node_id, NOWHERE, _attributes(written), tuple(classes))
    ends = st.sampled_from(list(nodes))
    pairs = draw(st.lists(st.tuples(ends, ends, st.dictionaries(keys, values, max_size=2)), max_size=8))
    edges = tuple(Edge(source, target, NOWHERE, at, _attributes(written)) for at, (source, target, written) in enumerate(pairs))
    name = draw(st.one_of(st.just(""), ids, values.filter(bool)))
    return Graph(name, nodes, edges, _attributes(draw(st.dictionaries(keys, values, max_size=3))))


def _meaning(graph: Graph) -> object:
    """Everything but places and quoting."""

    def plain(attributes: object) -> dict[str, str]:
        return {attribute.key: attribute.value for attribute in attributes.values()}  # type: ignore[attr-defined]

    nodes = [(node.id, plain(node.attributes), node.classes, node.declared) for node in graph.nodes.values()]
    edges = [(edge.source, edge.target, edge.index, plain(edge.attributes)) for edge in graph.edges]
    return graph.name, plain(graph.attributes), nodes, edges


@given(graphs())
def test_what_is_printed_reads_the_same(graph: Graph):
    """parse(print(graph)) is the graph, and printing again gives the same text."""
    text = to_dot(graph)
    again = parse_dot(text)
    assert _meaning(again) == _meaning(graph)
    assert to_dot(again) == text


def test_nodes_that_only_edges_name_stay_so():
    """Printing declares nothing that was not declared."""
    graph = parse_dot("digraph G { a [label=x] a -> b }")
    assert _meaning(parse_dot(to_dot(graph))) == _meaning(graph)
    assert to_dot(graph) == 'digraph G {\n  a [label="x"]\n  a -> b\n}\n'


def test_the_way_of_a_run_is_drawn_in_words_and_colors():
    """Color is never the only sign."""
    graph = parse_dot('digraph G { a [label="Plan", style=dashed] a -> b a -> c }')
    text = to_dot(graph, statuses={"a": "success", "b": "approved"}, taken=[("a", "b")])
    assert '"Plan\\n(success)"' in text
    assert f'fillcolor="{STATUS_COLORS["success"][0]}"' in text
    assert 'b [label="b\\n(approved)"' in text
    assert 'a -> b [color="#0a58ca", penwidth="2.5"]' in text
    assert "a -> c\n" in text


@pytest.mark.skipif(shutil.which("dot") is None, reason="the program dot of Graphviz is not installed")
def test_graphviz_reads_what_is_printed():
    """Dotted keys, keywords as ids, quotes and line breaks: all of it is DOT."""
    graph = parse_dot(
        'digraph "a b" { retry.backoff.jitter=false; "Node" [label="q \\" \\d\\n", human.default_choice=x] "v-1.2" -> "Node" }'
    )
    text = to_dot(graph, statuses={"v-1.2": "fail"}, taken=[("v-1.2", "Node")])
    drawn = subprocess.run(["dot", "-Tsvg"], input=text, capture_output=True, text=True, check=False)
    assert (drawn.returncode, drawn.stderr) == (0, "")
    assert "(fail)" in drawn.stdout


def test_mermaid_shows_shapes_labels_statuses_and_the_way():
    """Ids of Mermaid's own, shapes by type, captions from label or condition, status words in the labels."""
    graph = parse_dot("""digraph G { rankdir=LR
        start [shape=Mdiamond, label="Start"]  end [shape=Msquare]  ask [shape=hexagon, label="Ship?"]
        test [shape=parallelogram]  check [shape=diamond]
        start -> test -> check
        check -> ask [condition="outcome=success"]
        ask -> end [label="[Y] Yes"]
    }""")
    text = to_mermaid(graph, statuses={"start": "success", "test": "fail"}, taken=[("start", "test")])
    assert (
        text
        == """flowchart LR
  n0(["Start<br/>(success)"])
  n1((("end")))
  n2{{"Ship?"}}
  n3[/"test<br/>(fail)"/]
  n4{"check"}
  n0 ==> n3
  n3 --> n4
  n4 -->|"outcome=success"| n2
  n2 -->|"#91;Y#93; Yes"| n1
  classDef status_success fill:#d5f0dc,stroke:#1a7f37,color:#1b1f24
  class n0 status_success
  classDef status_fail fill:#ffdcd7,stroke:#c62f20,color:#1b1f24
  class n3 status_fail
  linkStyle 0 stroke:#0a58ca
"""
    )


@given(values, values)
def test_no_label_breaks_out_of_mermaid(label: str, status: str):
    """Whatever a label holds, the text stays one quoted line without markup."""
    node = Node("a", NOWHERE, _attributes({"label": label}))
    edge = Edge("a", "a", NOWHERE, 0, _attributes({"label": label}))
    text = to_mermaid(Graph("G", {"a": node}, (edge,)), statuses={"a": status} if status else {})
    drawn = [line for line in text.splitlines()[1:] if not line.lstrip().startswith(("classDef", "class "))]
    quoted = r'"[^"`<>|\[\]{}\\]*"'
    plain = [line.replace("<br/>", " ") for line in drawn]
    assert re.fullmatch(rf"  n0\[{quoted}\]", plain[0])
    assert re.fullmatch(rf"  n0 -->(\|{quoted}\|)? n0", plain[1])
    assert len(plain) == 2
