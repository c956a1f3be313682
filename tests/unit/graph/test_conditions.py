"""Edge conditions: the cases of ``conditions.yaml``, and what the language decides beyond them."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from kilroy_engine.errors import ConditionSyntaxError
from kilroy_engine.graph.conditions import evaluate, parse_condition, stringify
from kilroy_engine.graph.statuses import Json

CASES = yaml.safe_load((Path(__file__).parents[2] / "data/conformance/conditions.yaml").read_text(encoding="utf-8"))
LINT = yaml.safe_load((Path(__file__).parents[2] / "data/conformance/lint.yaml").read_text(encoding="utf-8"))


def _holds(condition: str, outcome: str = "success", label: str = "", context: dict[str, Json] | None = None) -> bool:
    return evaluate(parse_condition(condition), outcome=outcome, preferred_label=label, context=context or {})


def _wanted(case: dict[str, object]) -> bool | str:
    """What the engine decided where it decided, else what the case wants."""
    match case.get("ours"):
        case None:
            return bool(case["want"])
        case "literal read through the status table":
            return True
        case bool(decided):
            return decided
        case decided:
            return str(decided)


@pytest.mark.parametrize("case", CASES["cases"], ids=lambda case: case["cond"].strip() or "blank")
def test_conditions_hold_as_the_cases_say(case: dict[str, dict[str, str]]):
    """Spec 10, and the engine's decision where peers differ."""
    condition, outcome = str(case["cond"]), case["outcome"]
    wanted = _wanted(case)
    if wanted == "syntax error naming the operator":
        with pytest.raises(ConditionSyntaxError) as refused:
            parse_condition(condition)
        operator = next(name for name in ("||", ">", "not contains", "matches") if name in condition)
        assert refused.value.message.startswith(f"'{operator}' is no operator")
        assert refused.value.column == condition.index(operator) + 1
        return
    assert _holds(condition, outcome["status"], outcome.get("preferred_label", ""), dict(case.get("context", {}))) is wanted


@pytest.mark.parametrize(
    "condition", [case["cond"] for case in CASES["syntax_errors"]] + LINT["rules"]["condition_syntax"]["fire_conditions"]
)
def test_what_is_no_condition_is_refused_with_a_rewrite(condition: str):
    """The error names the place, points at it, and says what to write."""
    with pytest.raises(ConditionSyntaxError) as refused:
        parse_condition(condition)
    error = refused.value
    assert 1 <= error.column <= len(condition)
    assert error.excerpt == f"{condition}\n{' ' * (error.column - 1)}^"
    assert error.hint


@pytest.mark.parametrize("condition", LINT["rules"]["condition_syntax"]["silent_conditions"])
def test_what_is_a_condition_is_read(condition: str):
    """Near misses of the syntax errors."""
    assert parse_condition(condition).text == condition


@pytest.mark.parametrize(
    ("condition", "column", "message", "hint"),
    [
        ("outcome==success", 8, "'==' is no operator of conditions", "write outcome=success"),
        ("outcome !== fail", 9, "'!==' is no operator of conditions", "write outcome!=fail"),
        (
            "outcome=success || outcome=fail",
            17,
            "'||' is no operator of conditions: only =, != and && are",
            'write two edges to the same node: [condition="outcome=success"] and [condition="outcome=fail"]',
        ),
        (
            "outcome=success or x=1",
            17,
            "'or' is no operator of conditions: only =, != and && are",
            'write two edges to the same node: [condition="outcome=success"] and [condition="x=1"]',
        ),
        (
            "outcome=success and x=1",
            17,
            "'and' is no operator of conditions: only =, != and && are",
            "write && between two comparisons",
        ),
        ("!approved", 1, "'!' cannot negate a key", "write approved!=true"),
        (
            "context.count >= 3",
            15,
            "'>=' is no operator of conditions: only =, != and && are",
            "let the stage before decide and set a context key or a preferred label, then compare with = or !=",
        ),
        (
            "(outcome=fail)",
            1,
            "'(' is no operator of conditions: only =, != and && are",
            "conditions have no parentheses; write one edge per case",
        ),
        (
            "x=1 && context.a b=1",
            8,
            "'context.a b' is no key",
            "a key is a name, or names joined by dots, such as context.tests_passed",
        ),
        (
            "x=1 && =2",
            8,
            "a condition needs a key before the operator",
            "write outcome=…, preferred_label=… or context.name=…",
        ),
    ],
)
def test_a_mistake_in_a_condition_is_named(condition: str, column: int, message: str, hint: str):
    """Words, place and rewrite for each common mistake."""
    with pytest.raises(ConditionSyntaxError) as refused:
        parse_condition(condition)
    assert (refused.value.column, refused.value.message, refused.value.hint) == (column, message, hint)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (True, "true"),
        (False, "false"),
        (None, ""),
        (42, "42"),
        (42.0, "42"),
        (0.1, "0.1"),
        (-3.5, "-3.5"),
        (10**20, "100000000000000000000"),
        ([1, "a", None], '[1,"a",null]'),
        ({"a": True, "ü": 1}, '{"a":true,"ü":1}'),
        ("True", "True"),
    ],
)
def test_values_are_compared_as_text(value: Json, text: str):
    """A count that came through JSON as 42.0 is 42; lists and objects are compact JSON."""
    assert stringify(value) == text
    assert _holds(f"context.x={text}", context={"x": value})


@pytest.mark.parametrize(
    ("condition", "value", "holds"),
    [
        ("context.tool.output=hello", "hello\n", True),
        ("context.tool.output=hello", "hello\n\n", False),
        ("context.tool.output!=hello", "hello\n", False),
        ("context.tool.output=Hello", "hello", False),
        ("context.tool.output=hello world", "hello world", True),
        ('context.tool.output="hello"', "hello", True),
        ("context.tool.output='hello'", "hello", True),
    ],
)
def test_text_is_compared_exactly_but_for_one_newline_at_its_end(condition: str, value: str, holds: bool):
    """The output of ``echo hello`` equals hello. Quotes around a literal are no part of it (Spec 10.2)."""
    assert _holds(condition, context={"tool.output": value}) is holds


@pytest.mark.parametrize(
    ("value", "holds"),
    [("", False), ("no", False), ("FALSE", False), (0, False), (False, False), (None, False), ("yes", True), (1, True)],
)
def test_a_bare_key_is_false_for_words_of_no(value: Json, holds: bool):
    """Kilroy's reading: empty, false, 0 and no, in any case."""
    assert _holds("flag", context={"flag": value}) is holds
    assert _holds("context.flag", context={"flag": value}) is holds


def test_keys_of_other_stages_may_hold_hyphens():
    """Context keys are made of node ids, which may hold hyphens."""
    assert _holds("context.internal.retry_count.my-node=2", context={"internal.retry_count.my-node": 2})


def test_a_missing_key_is_empty():
    """Spec 10.3."""
    assert _holds("context.nothing=")
    assert not _holds("context.nothing")
    assert _holds("anything!=x")


def test_a_condition_tells_what_it_compares_with():
    """Rules ask which outcomes an edge waits for."""
    condition = parse_condition("outcome=fail && outcome!=retry && x=1 && outcome")
    assert condition.literals("outcome") == ("fail", "retry")
