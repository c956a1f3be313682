"""What reading DOT gives: places, scopes, strings, aliases."""

from __future__ import annotations

import pickle

import pytest

from kilroy_engine.errors import DotSyntaxError
from kilroy_engine.graph.dot.parse import parse_dot
from kilroy_engine.graph.model import Position


def _attributes(text: str, node: str = "a") -> dict[str, str]:
    return {key: attribute.value for key, attribute in parse_dot(text).nodes[node].attributes.items()}


def test_nodes_edges_and_attributes_know_their_places():
    """Line and column, from 1, of ids, keys and values; comments and line breaks counted."""
    graph = parse_dot('digraph G {\n  // first\n  a [label="A",\n     timeout = /* s */ 9s]\n  a -> b\n  goal="g"\n}')
    node = graph.nodes["a"]
    assert node.position == Position(3, 3)
    assert node.attributes["label"].position == Position(3, 6)
    assert node.attributes["label"].value_position == Position(3, 12)
    assert node.attributes["timeout"].position == Position(4, 6)
    assert node.attributes["timeout"].value_position == Position(4, 24)
    assert graph.edges[0].position == Position(5, 3)
    assert graph.nodes["b"].position == Position(5, 8)
    assert graph.attributes["goal"].value_position == Position(6, 8)


def test_a_byte_order_mark_and_crlf_do_not_move_places():
    """Columns count characters of the line as an editor shows it; line ends in texts are read as one newline."""
    graph = parse_dot('\ufeffdigraph G {\r\n  a [prompt="one\r\ntwo"]\r\n  b }')
    assert graph.nodes["a"].position == Position(2, 3)
    assert graph.nodes["a"].prompt == "one\ntwo"
    assert graph.nodes["b"].position == Position(4, 3)


def test_source_and_filename_are_kept():
    """The run directory saves the text as it was submitted."""
    text = "\ufeffdigraph G { a }\r\n"
    graph = parse_dot(text, "flow.dot")
    assert (graph.source, graph.filename, graph.name) == (text, "flow.dot", "G")


@pytest.mark.parametrize(
    ("written", "value"),
    [
        (r'"a \"quoted\" word"', 'a "quoted" word'),
        (r'"tab\tand\nline"', "tab\tand\nline"),
        (r'"back\\slash\\n"', r"back\slash\n"),
        (r'"grep \d+ \.py"', r"grep \d+ \.py"),
        ('"one \\\n   two"', "one    two"),
        ('"\ttabs and ünïcode ✓"', "\ttabs and ünïcode ✓"),
        ('""', ""),
        ("gpt-5.4", "gpt-5.4"),
        ("a/b//comment\n", "a/b"),
        ("-1", "-1"),
        ("./run.sh", "./run.sh"),
        ("anthropic:claude", "anthropic:claude"),
    ],
)
def test_values_are_read_with_their_escapes(written: str, value: str):
    """Spec 2.2: four escapes; any other backslash stays; a backslash at the end of a line joins it with the next."""
    assert _attributes(f"digraph G {{ a [x={written}] }}") == {"x": value}


def test_defaults_apply_to_what_follows_in_their_scope():
    """Spec 2.10, 2.11: subgraphs inherit the defaults around them and keep their own to themselves."""
    text = """digraph G {
        before
        node [timeout=1s, class=x]
        edge [weight=2]
        subgraph s { node [timeout=2s] inside  inside2 [timeout=3s]  inside -> inside2 [weight=5] }
        after
        inside2 -> after
    }"""
    graph = parse_dot(text)
    timeouts = {node.id: node.text("timeout") for node in graph.nodes.values()}
    assert timeouts == {"before": "", "inside": "2s", "inside2": "3s", "after": "1s"}
    assert [edge.weight for edge in graph.edges] == [5, 2]


def test_a_node_declared_again_is_merged():
    """What a node says itself outlasts defaults of a later scope, and a later word of its own replaces an earlier one."""
    text = 'digraph G { node [timeout=1s] a [x=1, y=1] subgraph s { label="In" node [timeout=2s, y=2] a [x=3] } }'
    assert _attributes(text) == {"timeout": "2s", "x": "3", "y": "1"}
    assert parse_dot(text).nodes["a"].classes == ("in",)


def test_a_node_named_by_an_edge_first_belongs_where_it_is_declared():
    """Naming is not declaring: defaults and classes come from the place of the declaration."""
    text = 'digraph G { a -> b  subgraph s { label="S" node [timeout=2s] b } }'
    graph = parse_dot(text)
    assert (graph.nodes["a"].declared, graph.nodes["b"].declared) == (False, True)
    assert graph.nodes["b"].text("timeout") == "2s"
    assert graph.nodes["b"].classes == ("s",)


def test_classes_come_from_subgraph_labels_and_the_class_attribute():
    """Spec 2.10, 2.12: lower case, blanks to hyphens, the rest dropped; the innermost subgraph first; none twice."""
    text = """digraph G {
        subgraph cluster_1 { graph [label="Outer (v2)!"]
            subgraph cluster_2 { a [class="own, loop-a"]; label = "Loop A"; }
            b }
        c [class=own]
    }"""
    graph = parse_dot(text)
    assert graph.nodes["a"].classes == ("loop-a", "outer-v2", "own")
    assert graph.nodes["b"].classes == ("outer-v2",)
    assert graph.nodes["c"].classes == ("own",)


def test_attributes_inside_a_subgraph_are_not_the_graphs():
    """A pipeline attribute in a subgraph has no effect, and is reported; drawing attributes there are nobody's business."""
    graph = parse_dot('digraph G { goal="real" subgraph s { goal="other"; rank=same; label="L"; graph [retry_target=x] } }')
    assert graph.goal == "real"
    assert set(graph.attributes) == {"goal"}
    assert [(d.rule, d.line, d.column) for d in graph.findings] == [
        ("subgraph_attribute", 1, 38),
        ("subgraph_attribute", 1, 81),
    ]


def test_edges_keep_the_order_of_the_file():
    """Chains expand in place (Spec 2.9)."""
    graph = parse_dot("digraph G { a -> b -> c  c -> a [weight=1]; }")
    assert [(edge.source, edge.target, edge.index) for edge in graph.edges] == [("a", "b", 0), ("b", "c", 1), ("c", "a", 2)]
    assert graph.edges[1].position == Position(1, 18)


def test_aliases_are_resolved_and_remember_how_they_were_written():
    """The names of other engines and older specifications are read as ours."""
    text = "digraph G { default_max_retry=3 a [llm_prompt=p, script=s, node_type=tool, model=m, provider=q] b [handler=tool] }"
    graph = parse_dot(text)
    assert graph.integer("default_max_retries", 0) == 3
    assert graph.attributes["default_max_retries"].written_as == "default_max_retry"
    assert _attributes(text) == {"prompt": "p", "tool_command": "s", "type": "tool", "llm_model": "m", "llm_provider": "q"}
    assert graph.nodes["b"].type == "tool"


@pytest.mark.parametrize(
    ("written", "value", "message"),
    [
        ("x=1, x=2", "2", "attribute 'x' is written twice; the last one counts"),
        (
            "prompt=true_name, llm_prompt=alias",
            "true_name",
            "'prompt' and 'llm_prompt' name the same attribute; 'prompt' counts",
        ),
        (
            "llm_prompt=alias, prompt=true_name",
            "true_name",
            "'llm_prompt' and 'prompt' name the same attribute; 'prompt' counts",
        ),
    ],
)
def test_an_attribute_written_twice_is_reported(written: str, value: str, message: str):
    """The last one counts, but a true name counts before its alias."""
    graph = parse_dot(f"digraph G {{ a [{written}] }}")
    (attribute,) = graph.nodes["a"].attributes.values()
    assert attribute.value == value
    assert [(d.rule, d.message, d.node) for d in graph.findings] == [("duplicate_attribute", message, "a")]


def test_separators_between_attributes_are_optional():
    """Commas, semicolons, blanks, several lists, a trailing comma: all are found in the wild."""
    assert _attributes('digraph G { a [x=1 y=2;z="3"w=4,][v=5;] }') == {"x": "1", "y": "2", "z": "3", "w": "4", "v": "5"}


def test_statements_may_be_empty_and_blocks_anonymous():
    """Stray semicolons and plain braces, as Graphviz takes them."""
    graph = parse_dot("digraph { ; { a; b }; subgraph { c }; ;a -> b;; };")
    assert (graph.name, list(graph.nodes), len(graph.edges)) == ("", ["a", "b", "c"], 1)


@pytest.mark.parametrize("node_id", ["my-node", "v1.2", "a-1.b-2", "Node", "strict"])
def test_quoted_ids_may_hold_hyphens_and_dots(node_id: str):
    """An id becomes a folder and a part of a branch name."""
    assert list(parse_dot(f'digraph G {{ "{node_id}" -> b }}').nodes) == [node_id, "b"]


@pytest.mark.parametrize("node_id", ["", "a b", "../x", "a..b", ".a", "-a", "a/b", "é", "1a", "a.", 'a\\"b'])
def test_other_quoted_ids_are_refused(node_id: str):
    """Anything that could leave the run directory or break a branch name."""
    with pytest.raises(DotSyntaxError, match="cannot be a node id"):
        parse_dot(f'digraph G {{ "{node_id}" }}')


def test_dotted_keys_are_read_everywhere():
    """Spec 2.2 allows them in lists; real pipelines write them as statements, too; Graphviz needs them quoted."""
    graph = parse_dot('digraph G { retry.backoff.jitter=false; a [manager.max_cycles=3, "human.default_choice"=ship] }')
    assert graph.text("retry.backoff.jitter") == "false"
    assert graph.nodes["a"].text("human.default_choice") == "ship"
    assert graph.nodes["a"].attributes["human.default_choice"].position == Position(1, 66)


def test_text_that_looks_like_comments_or_brackets_stays_text():
    """Strings are opaque."""
    text = 'digraph G { a [x="/* no */ // no ] } [ {", y="\'"] /* "quoted" ] */ b // "c\n}'
    assert _attributes(text) == {"x": "/* no */ // no ] } [ {", "y": "'"}
    assert list(parse_dot(text).nodes) == ["a", "b"]


def test_a_graph_survives_pickling():
    """Graphs travel between processes."""
    graph = parse_dot('digraph G { a [label="x"] a -> b }')
    assert pickle.loads(pickle.dumps(graph)) == graph
