"""Reads DOT text. Pure: text in, a graph or a :class:`~kilroy_engine.errors.DotSyntaxError` out."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from kilroy_engine.graph.dot_build import build_graph
from kilroy_engine.graph.dot_errors import ReadingError, explain, syntax_error
from kilroy_engine.graph.model import Graph

if TYPE_CHECKING:
    from lark import Lark, Token, Tree

MAX_TOKENS = 250_000
"""Largest pipeline that is read: some 20,000 nodes with their edges, a few seconds of work."""


def parse_dot(text: str, filename: str = "") -> Graph:
    """The graph that ``text`` describes (Spec 2); ``filename`` is for messages only.

    Nodes that only edges name are in the graph with ``declared=False``. Attribute aliases are resolved. The graph is not
    checked beyond its syntax.

    Raises:
        DotSyntaxError: With line, column, the source line and a hint.
    """
    readable = text.removeprefix("\ufeff").replace("\r\n", "\n")
    try:
        return build_graph(_read(readable), source=text, filename=filename)
    except ReadingError as failure:
        raise syntax_error(failure, readable, filename) from failure.__cause__


@cache
def _parser() -> Lark:
    # Lark and the tables of the grammar cost some 100 ms, which a command that reads no pipeline need not pay.
    from lark import Lark

    grammar = Path(__file__).with_name("dot.lark").read_text(encoding="utf-8")
    return Lark(grammar, parser="lalr", lexer="contextual", maybe_placeholders=False)


def _read(text: str) -> Tree[Token]:
    from lark.exceptions import UnexpectedCharacters, UnexpectedToken

    parsing = _parser().parse_interactive(text)
    token = None
    try:
        for count, token in enumerate(parsing.iter_parse()):
            if count >= MAX_TOKENS:
                raise ReadingError(
                    token.start_pos or 0,
                    f"the pipeline is too large: more than {MAX_TOKENS:,} names, arrows, brackets and attributes",
                    "split it into several pipelines",
                )
        return parsing.feed_eof(token)
    except UnexpectedCharacters as error:
        raise explain(text, error.pos_in_stream, parsing.accepts()) from error
    except UnexpectedToken as error:
        offset = len(text) if error.token.type == "$END" else error.token.start_pos or 0
        raise explain(text, offset, parsing.accepts()) from error
