"""The messages for text that is outside the dialect, word for word."""

from __future__ import annotations

import pickle

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from kilroy_engine.errors import DotSyntaxError
from kilroy_engine.graph.dot.parse import parse_dot

MISTAKES = [
    ("digraph G { a -- b }", 1, 15, "'--' is an undirected edge"),
    ("graph G { a }", 1, 1, "an undirected graph is no pipeline"),
    ("strict digraph G { a }", 1, 1, "'strict' graphs are not supported"),
    ("Digraph G { a }", 1, 1, "expected 'digraph', found 'Digraph'"),
    ("```dot\ndigraph G { a }\n```", 1, 1, "a Markdown fence is no part of a pipeline"),
    ("hello", 1, 1, "expected 'digraph', found 'hello'"),
    ("", 1, 1, "the file holds no pipeline"),
    ("  // only a comment\n", 2, 1, "the file holds no pipeline"),
    ("digraph A { a } digraph B { b }", 1, 17, "a second graph in the same file"),
    ("digraph A { a }}", 1, 16, "this '}' closes nothing: the graph ends before it"),
    ("digraph A { a } x", 1, 17, "'x' comes after the end of the graph"),
    ("digraph my-graph { a }", 1, 11, "expected '{' after the name of the graph, found '-graph'"),
    ("digraph my graph { a }", 1, 12, "expected '{' after the name of the graph, found 'graph'"),
    ("digraph G {\n  a -> b\n", 3, 1, "the text ends before the '{' that opens at line 1 is closed"),
    ("digraph G {\n subgraph s {\n a }", 3, 5, "the text ends before the '{' that opens at line 1 is closed"),
    ("digraph G { my-node [x=1] }", 1, 15, "'-' inside the node id 'my-node'"),
    ("digraph G { a.b -> c }", 1, 14, "'.' inside the node id 'a.b'"),
    ('digraph G { "my node" }', 1, 13, "'my node' cannot be a node id"),
    ("digraph G { a:out -> b }", 1, 14, "ports are not supported"),
    ("digraph G { 1a }", 1, 13, "'1a' cannot begin a statement"),
    ("digraph G { # note\n a }", 1, 13, "'#' begins no comment here"),
    ("digraph G { a => b }", 1, 15, "'=>' is no edge"),
    ("digraph G { a -> {b c} }", 1, 18, "an edge cannot lead to a group of nodes"),
    ("digraph G { a -> }", 1, 18, "the edge has no target: found '}' after '->'"),
    ("digraph G { a -> node }", 1, 18, "'node' is a keyword and cannot name a node"),
    ("digraph G { node -> a }", 1, 18, "expected '[' after the keyword, found '-'"),
    ("digraph G { x=1, y=2 }", 1, 16, "',' between two statements"),
    ("digraph G { a ] }", 1, 15, "this ']' closes nothing"),
    ("digraph G { [x=1] }", 1, 13, "attributes without a node or edge before them"),
    ("digraph G { /* a }", 1, 13, "this comment is never closed"),
    ("digraph G { \x00 }", 1, 13, "the character U+0000 cannot begin a statement"),
    ("digraph G { a [label] }", 1, 16, "attribute 'label' has no value"),
    ("digraph G { a [label=foo bar] }", 1, 26, "attribute 'bar' has no value"),
    ("digraph G { a [label==x] }", 1, 21, "'==' between an attribute and its value"),
    ("digraph G { a [label:x] }", 1, 21, "':' after the attribute 'label'"),
    ("digraph G { a [my-key=x] }", 1, 18, "'-' inside the attribute name 'my-…'"),
    ("digraph G { a [x=] }", 1, 18, "no value after '=': found ']'"),
    ("digraph G { goal = }", 1, 20, "no value after '=': found '}'"),
    ("digraph G { a [x=1,,y=2] }", 1, 20, "',' with no attribute before it"),
    ("digraph G { a [x=<b>bold</b>] }", 1, 18, "HTML-like values are not supported"),
    ("digraph G { a [x='y'] }", 1, 18, "single quotes do not quote"),
    ("digraph G { a [x=$y] }", 1, 18, "'$' cannot begin a value without quotes"),
    ("digraph G { a [x=café] }", 1, 21, "'é' in a value without quotes"),
    ('digraph G { a [x="a" + "b"] }', 1, 22, "texts cannot be joined with '+'"),
    ("digraph G { a [timeout=900x] }", 1, 24, "'900x' is neither a number nor a duration"),
    ("digraph G { a [v=1.2.3] }", 1, 18, "'1.2.3' is neither a number nor a duration"),
    ('digraph G { a [x=\\"y\\"] }', 1, 18, 'a backslash before the quote that opens a text: \\"'),
    ('digraph G {\n a [x="y]\n}', 2, 7, "this text is never closed"),
    ('digraph G { a [label="x"\n b -> c }', 2, 2, "'b' comes before the '[' that opens at line 1 is closed"),
    ('digraph G { a [label="x"}', 1, 25, "'}' comes before the '[' that opens at line 1 is closed"),
    ("digraph G { a [x=1", 1, 19, "the text ends before the '[' that opens at line 1 is closed"),
    (
        'digraph G {\n a [label="one, shape=box]\n b [label="two"]\n}',
        2,
        11,
        "the quote that opens here seems never to be closed: the text runs on to the next quote",
    ),
]


@pytest.mark.parametrize(("text", "line", "column", "message"), MISTAKES, ids=[message for *_, message in MISTAKES])
def test_a_common_mistake_is_named_at_its_place(text: str, line: int, column: int, message: str):
    """Each mistake has words of its own, its line and column, and a caret under the very character."""
    with pytest.raises(DotSyntaxError) as refused:
        parse_dot(text)
    error = refused.value
    assert (error.message, error.line, error.column) == (message, line, column)
    source_line, caret_line = error.excerpt.split("\n")
    assert source_line.startswith(f"{line:>4} | ")
    assert caret_line.index("^") - len("   1 | ") == column - 1


def test_the_whole_message_reads_as_users_see_it():
    """File, line, column, message; the line with its number; the caret; the hint."""
    with pytest.raises(DotSyntaxError) as refused:
        parse_dot("digraph G {\n\ta [label=<b>]\n}", "flows/review.dot")
    assert str(refused.value) == (
        "flows/review.dot:2:11: HTML-like values are not supported\n"
        "   2 |  a [label=<b>]\n"
        "     |           ^\n"
        'hint: write the text in double quotes: label="…"'
    )


def test_a_long_line_is_cut_around_the_caret():
    """A terminal never gets a line of megabytes."""
    with pytest.raises(DotSyntaxError) as refused:
        parse_dot("digraph G { " + "a " * 500 + "! " + "b " * 500 + "}")
    source_line, caret_line = refused.value.excerpt.split("\n")
    assert len(source_line) < 120
    assert source_line.count("…") == 2
    assert source_line[caret_line.index("^")] == "!"


PIECES = [
    "digraph",
    "graph",
    "node",
    "edge",
    "subgraph",
    "a",
    "b-c",
    "é",
    "12",
    "900x",
    "=",
    "==",
    "->",
    "--",
    "[",
    "]",
    "{",
    "}",
]
PIECES += [
    '"',
    '"x"',
    '\\"',
    "'",
    "/*",
    "*/",
    "//",
    "#",
    ",",
    ";",
    ":",
    "+",
    "<",
    ">",
    "\\",
    "\n",
    "\r\n",
    " ",
    "\t",
    "\x00",
    "\ufeff",
]


@given(st.lists(st.sampled_from(PIECES), max_size=30).map("".join), st.sampled_from(["", "digraph G {", "digraph G { a ["]))
@example("", "digraph")
@example("", 'digraph G { a [x="')
def test_any_text_is_read_or_refused_at_a_place_within_it(text: str, before: str):
    """No other error ever comes out, and the place is one that the text has."""
    text = before + text
    refused = None
    try:
        parse_dot(text)
    except DotSyntaxError as error:
        refused = error
    if refused is not None:
        lines = text.removeprefix("\ufeff").replace("\r\n", "\n").split("\n")
        assert 1 <= refused.line <= len(lines)
        assert 1 <= refused.column <= len(lines[refused.line - 1]) + 1
        assert refused.message


def test_the_error_survives_pickling():
    """Errors travel between processes."""
    with pytest.raises(DotSyntaxError) as refused:
        parse_dot("digraph G { a -- b }", "x.dot")
    copy = pickle.loads(pickle.dumps(refused.value))
    assert str(copy) == str(refused.value)
