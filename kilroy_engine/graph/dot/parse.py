"""Parses DOT text into a graph, or raises :class:`~kilroy_engine.errors.DotSyntaxError`. Pure."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from kilroy_engine.graph.dot.build import build_graph
from kilroy_engine.graph.dot.errors import MAX_TOKENS, ReadingError, explain, syntax_error, too_large
from kilroy_engine.graph.dot.lexemes import TERMINALS
from kilroy_engine.graph.model import Graph

if TYPE_CHECKING:
    from lark import Lark, Token, Tree


def parse_dot(text: str, filename: str = "") -> Graph:
    """The graph that ``text`` describes (Spec 2). ``filename`` is for messages only.

    The graph has a node with ``declared=False`` for each id that only edges name. Attribute aliases are resolved. Only the
    syntax is checked here.

    Raises:
        DotSyntaxError: The text is outside the dialect. The error has line, column, the source line and a hint.
    """
    readable = text.removeprefix("\ufeff").replace("\r\n", "\n")
    try:
        return build_graph(_read(readable), readable, source=text, filename=filename)
    except ReadingError as failure:
        raise syntax_error(failure, readable, filename) from failure.__cause__


@cache
def _parser() -> Lark:
    from lark import Lark  # noqa: PLC0415 - importing lark takes some 100 ms; a command that reads no pipeline saves them

    rules = Path(__file__).with_name("dot.lark").read_text(encoding="utf-8")
    # In a lark grammar a pattern stands between slashes, and "s" is the flag DOTALL.
    terminals = [f"{name}: /{pattern.replace('/', chr(92) + '/')}/s" for name, pattern in TERMINALS.items()]
    return Lark("\n".join([rules, *terminals, ""]), parser="lalr", lexer="contextual", maybe_placeholders=False)


def _read(text: str) -> Tree[Token]:
    from lark.exceptions import UnexpectedCharacters, UnexpectedToken  # noqa: PLC0415 - as in _parser

    parsing = _parser().parse_interactive(text)
    token = None
    try:
        for count, token in enumerate(parsing.iter_parse()):
            if count >= MAX_TOKENS:
                raise too_large(token.start_pos or 0)
        return parsing.feed_eof(token)
    except UnexpectedCharacters as error:
        raise explain(text, error.pos_in_stream, parsing.accepts()) from error
    except UnexpectedToken as error:
        offset = len(text) if error.token.type == "$END" else error.token.start_pos or 0
        raise explain(text, offset, parsing.accepts()) from error
