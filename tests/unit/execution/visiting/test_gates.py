"""Human gates that nobody has to answer: the first choice, told as if somebody had."""

from __future__ import annotations

import pytest
from whole_runs import Place

from kilroy_engine.errors import InvalidInput

GATE = (
    'ask [shape=hexagon, label="Ship it?"] yes [tool_command="true"] no [tool_command="true"] start -> ask '
    'ask -> yes [label="[Y] Yes"]  ask -> no [label="[N] No"]  yes -> done  no -> done'
)


def test_auto_approve_takes_the_first_choice(place: Place) -> None:
    """Opened and answered at once, by nobody; the walk goes on by the choice's edge."""
    ran = place.runs(GATE, human="auto-approve")

    assert ran.completed == ("start", "ask", "yes", "done")
    (asked,) = ran.events("human_gate_opened")
    (answered,) = ran.events("human_gate_answered")
    assert (asked["node_id"], asked["question"], asked["choices"]) == ("ask", "Ship it?", ["[Y] Yes", "[N] No"])
    assert (answered["choice"], answered["by"], answered["waited_s"]) == ("[Y] Yes", "auto-approve", 0.0)


def test_a_gate_in_a_branch_is_answered_there(place: Place) -> None:
    """The question is in the branch's stream, and the run's tells of it."""
    ran = place.runs(
        'p [shape=component] j [shape=tripleoctagon] ask [shape=hexagon] a [tool_command="true"] b [tool_command="true"] '
        "start -> p  p -> ask -> a -> j  p -> b -> j  j -> done",
        human="auto-approve",
    )

    assert ran.end == ("success", "")
    assert [event["node_id"] for event in ran.events("human_gate_opened", within="parallel/p/pass1/01-ask")] == ["ask"]


def test_a_gate_is_never_answered_silently(place: Place) -> None:
    """Without somebody to ask the run is refused, before anything happens."""
    with pytest.raises(InvalidInput, match=r"node ask .* is a human gate and nobody is there to answer it"):
        place.runs(GATE)
    assert not place.run.path.exists()
