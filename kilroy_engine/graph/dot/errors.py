"""Explains syntax errors in DOT text: what is wrong at which place, and what to change."""

from __future__ import annotations

import re
from collections.abc import Callable, Set

from kilroy_engine.errors import DotSyntaxError
from kilroy_engine.graph.dot.lexemes import KEY, LEXEME, skip, skip_attributes
from kilroy_engine.graph.source import excerpt, position_at, source_lines

_WORD = re.compile(r"[\w.:/+-]+")
MAX_TOKENS = 150_000
"""The largest number of tokens in a pipeline, and the largest number of attributes.

About 20,000 nodes with as many edges, which take a few seconds to read.
"""

_ENDS_IN_KEY = re.compile(r"[A-Za-z_][\w.]*\s*=\s*\Z")
_JOINTS = "-:./+"
_QUOTE_IT = "a value of anything but letters, digits and _ - . / : + needs double quotes"


class ReadingError(Exception):
    """A syntax error at the character ``offset`` of the text, from 0. :func:`syntax_error` turns it into the user's error."""

    def __init__(self, offset: int, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.offset = offset
        self.message = message
        self.hint = hint


def too_large(offset: int) -> ReadingError:
    """The error for a text that exceeds ``MAX_TOKENS`` at ``offset``."""
    message = f"the pipeline is too large: more than {MAX_TOKENS:,} names, arrows and lists, or as many attributes"
    return ReadingError(offset, message, "split it into several pipelines")


def syntax_error(failure: ReadingError, text: str, filename: str) -> DotSyntaxError:
    """The error for users, with line, column, excerpt and hint. Called once per text, by :func:`parse_dot`."""
    place = position_at(text, failure.offset)
    return DotSyntaxError(
        failure.message,
        line=place.line,
        column=place.column,
        filename=filename,
        excerpt=excerpt(source_lines(text), place.line, place.column),
        hint=failure.hint,
    )


def explain(text: str, offset: int, expected: Set[str]) -> ReadingError:
    """The error for a text at whose ``offset`` the parser stopped. ``expected`` are the terminals that may stand there."""
    offset = skip(text, offset)
    explainer = _explainer(expected)
    if "LIST" in expected and text.startswith("[", offset):
        explainer, offset = _in_attributes, skip_attributes(text, offset + 1)
    if text.startswith("/*", offset):
        return ReadingError(offset, "this comment is never closed", "end it with */")
    if text.startswith('\\"', offset):
        return _escaped_quote(offset)
    if text.startswith('"', offset) and not LEXEME.match(text, offset):
        return _unterminated(text, offset)
    if (culprit := _runaway_string(text, offset)) is not None:
        return culprit
    return explainer(text, offset)


def _explainer(expected: Set[str]) -> Callable[[str, int], ReadingError]:
    if "DIGRAPH" in expected:
        return _before_graph
    if "RBRACE" in expected:
        return _in_body
    if "LBRACE" in expected:
        return _in_header
    if "LIST" in expected:
        return _after_default_keyword
    if "NAME" in expected:
        return _at_edge_target
    return _after_graph


def _shown(text: str, offset: int) -> str:
    if offset >= len(text):
        return "the end of the text"
    if word := _WORD.match(text, offset):
        return f"'{(word[0].rstrip(_JOINTS) or word[0])[:40]}'"
    char = text[offset]
    return f"'{char}'" if char.isprintable() else f"the character U+{ord(char):04X}"


def _escaped_quote(offset: int) -> ReadingError:
    return ReadingError(
        offset,
        'a backslash before the quote that opens a text: \\"',
        'write a plain " to open and close a text; \\" is for a quote inside one',
    )


def _unterminated(text: str, offset: int) -> ReadingError:
    return _runaway_string(text, offset) or ReadingError(
        offset, "this text is never closed", 'end it with "; a quote inside a text is written \\"'
    )


def _runaway_string(text: str, offset: int) -> ReadingError | None:
    """The error for a quote that is never closed, if there is one before ``offset``.

    Such a text runs on to the opening quote of the next value. So it ends right after ``key =``.
    """
    for lexeme in LEXEME.finditer(text, 0, offset + 1):
        body = lexeme[0]
        runs_on = text[lexeme.end() : lexeme.end() + 1].isalnum()
        if body[0] == '"' and runs_on and _ENDS_IN_KEY.search(body[-60:-1]):
            return ReadingError(
                lexeme.start(),
                "the quote that opens here seems never to be closed: the text runs on to the next quote",
                'end the text with "; a quote inside it is written \\"',
            )
    return None


def _open_bracket(text: str, offset: int, bracket: str) -> int | None:
    """Offset of the innermost ``bracket`` (``[`` or ``{``) that is open at ``offset``; None where none is open."""
    opened: list[int] = []
    closing = {"[": "]", "{": "}"}[bracket]
    for lexeme in LEXEME.finditer(text, 0, offset):
        if lexeme[0] == bracket:
            opened.append(lexeme.start())
        elif lexeme[0] == closing and opened:
            opened.pop()
    return opened[-1] if opened else None


def _never_closed(text: str, offset: int, bracket: str, closing: str) -> ReadingError:
    opened = _open_bracket(text, offset, bracket)
    where = f" that opens at line {position_at(text, opened).line}" if opened is not None else ""
    found = "the text ends" if offset >= len(text) else f"{_shown(text, offset)} comes"
    return ReadingError(offset, f"{found} before the '{bracket}'{where} is closed", f"add the missing {closing}")


def _before_graph(text: str, offset: int) -> ReadingError:
    word = (_WORD.match(text, offset) or [""])[0]
    if offset >= len(text):
        return ReadingError(offset, "the file holds no pipeline", "a pipeline is written: digraph Name { … }")
    if text.startswith("```", offset):
        return ReadingError(offset, "a Markdown fence is no part of a pipeline", "remove the lines with ```")
    match word.lower():
        case "strict":
            return ReadingError(offset, "'strict' graphs are not supported", "remove the word strict")
        case "graph":
            return ReadingError(
                offset, "an undirected graph is no pipeline", "write digraph in place of graph, and -> in place of --"
            )
        case "digraph":
            return ReadingError(offset, f"expected 'digraph', found '{word}'", "keywords are lower case")
        case _:
            found = _shown(text, offset)
            return ReadingError(offset, f"expected 'digraph', found {found}", "a pipeline is written: digraph Name { … }")


def _in_header(text: str, offset: int) -> ReadingError:
    hint = "a name of anything but letters, digits and _ needs double quotes" if offset < len(text) else ""
    return ReadingError(offset, f"expected '{{' after the name of the graph, found {_shown(text, offset)}", hint)


def _after_graph(text: str, offset: int) -> ReadingError:
    word = (_WORD.match(text, offset) or [""])[0]
    if word in ("digraph", "graph", "strict", "subgraph"):
        return ReadingError(offset, "a second graph in the same file", "keep one digraph per file")
    if text[offset] == "}":
        return ReadingError(
            offset, "this '}' closes nothing: the graph ends before it", "remove it, or the } that came too early"
        )
    return ReadingError(offset, f"{_shown(text, offset)} comes after the end of the graph", "nothing may follow the last }")


def _after_default_keyword(text: str, offset: int) -> ReadingError:
    return ReadingError(
        offset,
        f"expected '[' after the keyword, found {_shown(text, offset)}",
        "graph, node and edge begin attributes, as in: node [shape=box]; they cannot name a node",
    )


def _at_edge_target(text: str, offset: int) -> ReadingError:
    if text.startswith("{", offset):
        return ReadingError(offset, "an edge cannot lead to a group of nodes", "write one edge per target: a -> b  a -> c")
    if text.startswith("[", offset) or offset >= len(text) or text[offset] in ";}":
        return ReadingError(
            offset, f"the edge has no target: found {_shown(text, offset)} after '->'", "name the node it leads to"
        )
    return ReadingError(offset, f"{_shown(text, offset)} cannot be the target of an edge", _id_hint(text, offset))


def _id_hint(text: str, offset: int) -> str:
    if text[offset : offset + 1].isdigit():
        return "a node id begins with a letter or _; put the number in the label"
    return "a node id is made of ASCII letters, digits and _; other text goes in the label"


def _in_body(text: str, offset: int) -> ReadingError:
    if offset >= len(text):
        return _never_closed(text, offset, "{", "}")
    before = re.search(r"[A-Za-z_][A-Za-z0-9_]*\Z", text[max(0, offset - 80) : offset])
    glued = before[0] if before else ""
    match text[offset]:
        case "-" if text.startswith("--", offset):
            return ReadingError(offset, "'--' is an undirected edge", "write -> : edges of a pipeline have a direction")
        case ("-" | ".") as char if glued and (rest := _WORD.match(text, offset)) and len(rest[0]) > 1:
            name = (glued + rest[0].rstrip(_JOINTS))[:60]
            return ReadingError(
                offset, f"'{char}' inside the node id '{name}'", f'quote the id: "{name}", or use _ in its place'
            )
        case ":" if glued:
            return ReadingError(offset, "ports are not supported", f"remove the colon and what follows it: {glued}")
        case "=":
            return _bad_assignment(text, offset)
        case "#":
            return ReadingError(offset, "'#' begins no comment here", "write // before the comment")
        case "]":
            return ReadingError(
                offset, "this ']' closes nothing", "remove it, or open the attributes with [ after the node or edge"
            )
        case "[":
            return ReadingError(offset, "attributes without a node or edge before them", "write the node's id before the [")
        case _:
            return ReadingError(offset, f"{_shown(text, offset)} cannot begin a statement", _id_hint(text, offset))


def _bad_assignment(text: str, offset: int) -> ReadingError:
    if text.startswith("=>", offset):
        return ReadingError(offset, "'=>' is no edge", "write ->")
    return _bad_value(text, offset)


def _in_attributes(text: str, offset: int) -> ReadingError:
    key = KEY.match(text, offset)
    if key is None:
        return _no_key(text, offset)
    after = skip(text, key.end())
    if text.startswith("=", after):
        return _bad_value(text, after)
    if text.startswith(("->", "[", "{"), after):
        return _never_closed(text, offset, "[", "]")
    if text.startswith(":", after):
        return ReadingError(after, f"':' after the attribute '{key[0]}'", "write = between an attribute and its value")
    if text.startswith("-", after) and after == key.end():
        return ReadingError(after, f"'-' inside the attribute name '{key[0]}-…'", "use _ or . in names of attributes")
    hint = f'write {key[0]}="…"'
    if re.search(r"=[ \t]*[\w.:/+-]+[ \t]+\Z", text[max(0, offset - 200) : offset]):
        hint = "if it belongs to the value before it, put the whole value in double quotes"
    return ReadingError(offset, f"attribute '{key[0]}' has no value", hint)


def _no_key(text: str, offset: int) -> ReadingError:
    if offset >= len(text) or text[offset] in "}{[":
        return _never_closed(text, offset, "[", "]")
    char = text[offset]
    if char == "+" and text[:offset].rstrip().endswith('"'):
        return ReadingError(offset, "texts cannot be joined with '+'", "write one text; it may run over several lines")
    if char in ",;":
        return ReadingError(offset, f"'{char}' with no attribute before it", "write one comma between two attributes")
    if char == '"':
        return ReadingError(
            offset, "expected the name of an attribute, found a text", "names of attributes are letters, digits, _ and dots"
        )
    if offset and not text[offset - 1].isspace() and text[offset - 1] not in '"[,;]':
        return ReadingError(offset, f"{_shown(text, offset)} in a value without quotes", _QUOTE_IT)
    return ReadingError(offset, f"{_shown(text, offset)} cannot begin an attribute", "attributes are written key=value")


def _bad_value(text: str, equals: int) -> ReadingError:
    at = skip(text, equals + 1)
    if text.startswith('\\"', at):
        return _escaped_quote(at)
    match text[at : at + 1]:
        case "=":
            return ReadingError(equals, "'==' between an attribute and its value", "write a single =")
        case '"' if LEXEME.match(text, at):
            return ReadingError(
                equals, "the name before '=' cannot name an attribute", "names of attributes are letters, digits, _ and dots"
            )
        case '"':
            return _unterminated(text, at)
        case "<":
            return ReadingError(at, "HTML-like values are not supported", 'write the text in double quotes: label="…"')
        case "'":
            return ReadingError(at, "single quotes do not quote", "use double quotes")
        case "" | "," | ";" | "]" | "}":
            return ReadingError(at, f"no value after '=': found {_shown(text, at)}", 'an empty value is written ""')
        case _:
            return ReadingError(at, f"{_shown(text, at)} cannot begin a value without quotes", _QUOTE_IT)
