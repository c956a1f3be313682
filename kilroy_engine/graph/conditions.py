"""Parses and evaluates edge conditions: ``key=literal``, ``key!=literal`` and bare keys, joined by ``&&`` (Spec 10)."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import assert_never

from kilroy_engine.errors import ConditionSyntaxError
from kilroy_engine.graph.statuses import Json, read_status

_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(?:\.[A-Za-z0-9_-]+)*\Z")
_COMPARISON = re.compile(r"(?P<key>[^=!]*?)\s*(?P<operator>!=|=)\s*(?P<literal>.*)\Z", re.DOTALL)
_WORD_OPERATOR = re.compile(
    r"(?:^|\s)(not\s+contains|contains|matches|startswith|endswith|not\s+in|in|is\s+not|is|or|and|not)\b", re.IGNORECASE
)
_JOINED_BY_WORD = re.compile(r"\s(or|and)\s+[\w.]+\s*!?=", re.IGNORECASE)
_OPERATORS = ("||", "|", ">=", "<=", "=~", "!~", ">", "<", "~", "(", ")", "&")
_FALSE_WORDS = frozenset({"", "false", "0", "no"})


class Operator(StrEnum):
    """How a clause compares its key's value. ``TRUTHY`` belongs to a bare key."""

    EQUALS = "="
    DIFFERS = "!="
    TRUTHY = ""


@dataclass(frozen=True, slots=True)
class Clause:
    """One comparison of a condition. ``offset`` is where the clause begins in the condition's text, counted from 0."""

    key: str
    operator: Operator = Operator.TRUTHY
    literal: str = ""
    offset: int = 0


@dataclass(frozen=True, slots=True)
class Condition:
    """A parsed condition. The condition holds when every clause holds. A condition without clauses always holds."""

    text: str
    clauses: tuple[Clause, ...] = ()

    def literals(self, key: str) -> tuple[str, ...]:
        """The literals that the clauses compare ``key`` with, in the order of the text."""
        return tuple(clause.literal for clause in self.clauses if clause.key == key and clause.operator is not Operator.TRUTHY)


@lru_cache(maxsize=4096)
def parse_condition(text: str) -> Condition:
    """The condition that ``text`` writes. Blank text and blank clauses are allowed (Spec 10.5).

    Raises:
        ConditionSyntaxError: ``text`` breaks the grammar. The line is 1, the column counts in ``text``, the hint is a rewrite.
    """
    clauses: list[Clause] = []
    offset = 0
    for part in text.split("&&"):
        clause = part.strip()
        if clause:
            clauses.append(_parse_clause(clause, offset + len(part) - len(part.lstrip()), text))
        offset += len(part) + 2
    return Condition(text, tuple(clauses))


def evaluate(condition: Condition, *, outcome: str, preferred_label: str, context: Mapping[str, Json]) -> bool:
    """Whether the condition holds after a stage with this outcome, preferred label and context.

    ``outcome`` is a status word. The word and its literal pass through :func:`read_status`: ``outcome=failed`` means ``fail``.
    Every other comparison is exact. The key ``context.x`` is looked up in the context as ``context.x``, then as ``x``. Any
    other key is looked up as written. A missing key counts as empty text.
    """
    return all(_holds(clause, outcome, preferred_label, context) for clause in condition.clauses)


def stringify(value: Json) -> str:
    """A context value as conditions compare it: booleans in lower case, None empty, lists and objects as compact JSON."""
    match value:
        case None:
            return ""
        case bool():
            return "true" if value else "false"
        case float() if value.is_integer() and abs(value) < 1e15:
            return str(int(value))  # a count that passed through JSON as 3.0 is still 3
        case str() | int() | float():
            return str(value)
        case list() | dict():
            return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _holds(clause: Clause, outcome: str, preferred_label: str, context: Mapping[str, Json]) -> bool:
    literal = clause.literal
    match clause.key:
        case "outcome":
            value, literal = read_status(outcome), read_status(literal)
        case "preferred_label":
            value = preferred_label
        case key:
            value = stringify(_look_up(key, context)).removesuffix("\n")
    match clause.operator:
        case Operator.EQUALS:
            return value == literal
        case Operator.DIFFERS:
            return value != literal
        case Operator.TRUTHY:
            return value.lower() not in _FALSE_WORDS
        case _:
            assert_never(clause.operator)


def _look_up(key: str, context: Mapping[str, Json]) -> Json:
    value = context.get(key)
    if value is None and key.startswith("context."):
        return context.get(key.removeprefix("context."))
    return value


def _parse_clause(clause: str, offset: int, text: str) -> Clause:
    comparison = _COMPARISON.match(clause)
    if comparison is None:
        _check_key(clause, clause, offset, text)
        return Clause(clause, offset=offset)
    key, operator, literal = comparison["key"], Operator(comparison["operator"]), comparison["literal"].strip()
    at_literal = offset + comparison.start("literal")
    if literal.startswith("=") or (literal.startswith("~") and operator is Operator.EQUALS):
        written = f"{operator}{literal[0]}"
        hint = f"write {key}{operator}{literal.lstrip('=~ ')}"
        raise _error(text, offset + comparison.start("operator"), f"'{written}' is no operator of conditions", hint)
    _check_key(key, clause, offset, text)
    if (word := _JOINED_BY_WORD.search(literal)) or "|" in literal:
        at = word.start(1) if word else literal.index("|")
        found = word[1] if word else ("||" if literal.startswith("||", at) else "|")
        raise _unknown_operator(found, text, at_literal + at)
    return Clause(key, operator, _unquoted(literal), offset)


def _check_key(key: str, clause: str, offset: int, text: str) -> None:
    if _KEY.match(key):
        return
    if not key:
        raise _error(
            text, offset, "a condition needs a key before the operator", "write outcome=…, preferred_label=… or context.name=…"
        )
    if key.startswith("!"):
        raise _error(text, offset, "'!' cannot negate a key", f"write {key[1:].strip()}!=true")
    found = next((operator for operator in _OPERATORS if operator in clause), None)
    if found is not None:
        raise _unknown_operator(found, text, offset + clause.index(found))
    if (word := _WORD_OPERATOR.search(clause)) is not None:
        raise _unknown_operator(" ".join(word[1].split()), text, offset + word.start(1))
    raise _error(
        text, offset, f"'{key[:60]}' is no key", "a key is a name, or names joined by dots, such as context.tests_passed"
    )


def _unknown_operator(operator: str, text: str, offset: int) -> ConditionSyntaxError:
    match operator.lower():
        case "||" | "|" | "or":
            either, _, other = text.partition(text[offset : offset + len(operator)])
            hint = f'write two edges to the same node: [condition="{either.strip()}"] and [condition="{other.strip()}"]'
        case "&" | "and":
            hint = "write && between two comparisons"
        case "(" | ")":
            hint = "conditions have no parentheses; write one edge per case"
        case _:
            hint = "let the stage before decide and set a context key or a preferred label, then compare with = or !="
    return _error(text, offset, f"'{operator}' is no operator of conditions: only =, != and && are", hint)


def _error(text: str, offset: int, message: str, hint: str) -> ConditionSyntaxError:
    caret = " " * offset + "^"
    return ConditionSyntaxError(
        message, line=1, column=offset + 1, filename="<condition>", excerpt=f"{text}\n{caret}", hint=hint
    )


def _unquoted(literal: str) -> str:
    if len(literal) >= 2 and literal[0] in "\"'" and literal[-1] == literal[0]:
        return literal[1:-1]
    return literal
