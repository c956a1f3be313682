"""Human gates: the question, and what answers mean (Spec 4.6, 6)."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from kilroy_engine.handlers.base import Ask, StageRequest
from kilroy_engine.handlers.human import (
    answer_outcome,
    approve,
    choices_of,
    choose,
    wait_human,
)
from kilroy_engine.traversal.outcome import Outcome

Requests = Callable[..., StageRequest]
REVIEW = (
    'a [shape=hexagon, label="Ship it?"%s] ship fix later a -> ship [label="[Y] Yes, ship"] '
    'a -> fix [label="N) No, fix"] a -> later'
)


def asked(request_for: Requests, attributes: str = "", **changes: object) -> Ask:
    """The question of the review gate."""
    result = wait_human(request_for(REVIEW % attributes, **changes))
    assert isinstance(result, Ask)
    return result


def test_a_gate_offers_its_outgoing_edges_in_the_order_of_the_file(request_for: Requests) -> None:
    """Key by accelerator, label as written or else the target."""
    ask = asked(request_for)

    assert ask.question == "Ship it?"
    assert [(choice.key, choice.label, choice.target) for choice in ask.choices] == [
        ("Y", "[Y] Yes, ship", "ship"),
        ("N", "N) No, fix", "fix"),
        ("L", "later", "later"),
    ]
    assert (ask.default_choice, ask.timeout_s) == ("", None)


@pytest.mark.parametrize(
    ("labels", "keys"),
    [
        (["[Y] Yes", "Y) Yes again"], ["Y", "2"]),
        (["Y - Yes, deploy", "no"], ["Y", "N"]),
        (["approve", "abort", "ask"], ["A", "2", "3"]),
        (["2 days", "two days", "too late"], ["2", "T", "3"]),
        (["2", "1", "1"], ["2", "1", "3"]),
        (["éclair", "[ok] fine"], ["É", "O"]),
        (["well-known", "x"], ["W", "X"]),
    ],
)
def test_every_choice_has_a_key_of_its_own(request_for: Requests, labels: list[str], keys: list[str]) -> None:
    """Spec 4.6's patterns; a key that is taken gives way to the number of the edge (Kilroy)."""
    edges = " ".join(f'n{i} a -> n{i} [label="{label}"]' for i, label in enumerate(labels))
    request = request_for(f"a [shape=hexagon] {edges}")

    assert [choice.key for choice in choices_of(request.graph, request.node)] == keys


@pytest.mark.parametrize("answer", ["y", "Y", " ship ", "SHIP", "[y] yes, ship"])
def test_an_answer_is_a_key_a_target_or_a_label_in_any_case(request_for: Requests, answer: str) -> None:
    """Console and web answers differ in form."""
    choice = choose(asked(request_for), answer)

    assert choice is not None
    assert choice.target == "ship"


@pytest.mark.parametrize("answer", ["", "  ", "maybe", "ye"])
def test_an_answer_that_matches_nothing_is_no_choice(request_for: Requests, answer: str) -> None:
    """It is asked again; Spec and Kilroy take the first choice."""
    assert choose(asked(request_for), answer) is None


def test_a_choice_leads_to_its_target(request_for: Requests) -> None:
    """Kilroy's context values: the target and the label."""
    outcome = answer_outcome(asked(request_for).choices[1])

    assert outcome == Outcome(
        "success",
        preferred_label="N) No, fix",
        suggested_next_ids=("fix",),
        context_updates={"human.gate.selected": "fix", "human.gate.label": "N) No, fix"},
        notes="human gate selected",
    )


def test_automatic_approval_takes_the_first_choice(request_for: Requests) -> None:
    """Spec 6.4."""
    assert approve(asked(request_for)).suggested_next_ids == ("ship",)


def test_a_gate_without_edges_fails(request_for: Requests) -> None:
    """There is nothing to choose from."""
    result = wait_human(request_for("a [shape=hexagon] start -> a"))

    assert isinstance(result, Outcome)
    assert result.failure_reason == "no outgoing edges for human gate"


def test_a_default_that_names_no_choice_fails_before_anybody_waits(request_for: Requests) -> None:
    """And the message says what the gate offers."""
    result = wait_human(request_for(REVIEW % ', human.default_choice="never"'))

    assert isinstance(result, Outcome)
    assert result.failure_reason == (
        'human.default_choice "never" names no choice of the gate; it offers Y (ship), N (fix), L (later)'
    )


@pytest.mark.parametrize(
    ("attributes", "stage_limit_s", "timeout_s"),
    [("", None, None), ("", 900.0, 900.0), (", human.timeout=2h", 900.0, 7200.0), (", human.timeout=0", 900.0, None)],
)
def test_the_gate_waits_as_long_as_it_says(
    request_for: Requests, attributes: str, stage_limit_s: float | None, timeout_s: float | None
) -> None:
    """``human.timeout``, else the stage's own limit, else for ever."""
    assert asked(request_for, attributes, timeout_s=stage_limit_s).timeout_s == timeout_s


def test_a_question_attribute_is_asked_instead_of_the_label(request_for: Requests) -> None:
    """Kilroy: ``question``."""
    assert asked(request_for, ', question="Really?"').question == "Really?"
