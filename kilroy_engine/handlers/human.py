"""Human gates: the question of a gate, and the outcome that an answer gives. The engine asks the question."""

from __future__ import annotations

import re

from kilroy_engine.graph.attributes import read_duration_s
from kilroy_engine.graph.model import Graph, Node
from kilroy_engine.handlers.base import Ask, Choice, StageRequest
from kilroy_engine.traversal.outcome import Outcome, Status, failure

_ACCELERATOR = re.compile(r"\s*(?:\[\s*(?P<bracket>[^\]\s])[^\]]*\]|(?P<paren>\w)\)|(?P<dash>\w)\s+-\s)")


def wait_human(request: StageRequest, /) -> Ask | Outcome:
    """The question of a gate: one choice per outgoing edge, in the order of the file (Spec 4.6).

    The engine takes ``human.default_choice`` if nobody answers within ``human.timeout``, or else within the node's ``timeout``.
    A default that names no choice fails at once, because otherwise it would only be found after that wait.
    """
    node = request.node
    choices = choices_of(request.graph, node)
    if not choices:
        return failure("no outgoing edges for human gate")
    ask = Ask(
        question=node.text("question").strip() or node.label,
        choices=choices,
        default_choice=node.text("human.default_choice").strip(),
        timeout_s=_timeout_s(request),
    )
    if ask.default_choice and choose(ask, ask.default_choice) is None:
        offered = ", ".join(f"{choice.key} ({choice.target})" for choice in choices)
        return failure(f'human.default_choice "{ask.default_choice}" names no choice of the gate; it offers {offered}')
    return ask


def choices_of(graph: Graph, node: Node) -> tuple[Choice, ...]:
    """The answers that a gate offers, each with a different key."""
    taken: set[str] = set()
    choices: list[Choice] = []
    for number, edge in enumerate(graph.outgoing(node.id), start=1):
        label = edge.label.strip() or edge.target
        key = _free_key(_accelerator(label), number, taken)
        taken.add(key)
        choices.append(Choice(key, label, edge.target))
    return tuple(choices)


def choose(ask: Ask, answer: str) -> Choice | None:
    """The choice that ``answer`` names by key, target or label, in that order; upper and lower case are the same. None for no
    match."""
    word = answer.strip().casefold()
    if not word:
        return None
    for field in ("key", "target", "label"):
        for choice in ask.choices:
            if getattr(choice, field).casefold() == word:
                return choice
    return None


def answer_outcome(choice: Choice, *, notes: str = "human gate selected") -> Outcome:
    """The outcome of a choice: success, with the chosen target as the next node (Spec 4.6, Kilroy's context values)."""
    return Outcome(
        Status.SUCCESS,
        preferred_label=choice.label,
        suggested_next_ids=(choice.target,),
        context_updates={"human.gate.selected": choice.target, "human.gate.label": choice.label},
        notes=notes,
    )


def approve(ask: Ask) -> Outcome:
    """The outcome of a gate in a run with ``auto-approve``: the first choice (Spec 6.4)."""
    return answer_outcome(ask.choices[0], notes="human gate auto-approved")


def _accelerator(label: str) -> str:
    """The key in a label such as ``[Y] Yes``, ``Y) Yes`` or ``Y - Yes``, else the label's first character (Spec 4.6)."""
    match = _ACCELERATOR.match(label)
    found = next((group for group in match.groups() if group), "") if match else label[:1]
    return found.upper()


def _free_key(key: str, number: int, taken: set[str]) -> str:
    """``key`` if no other choice has it, else the edge's number, else the next free number."""
    if key and key not in taken:
        return key
    while str(number) in taken:
        number += 1
    return str(number)


def _timeout_s(request: StageRequest) -> float | None:
    own = read_duration_s(request.node.text("human.timeout"), default=None)
    limit = own if own is not None else request.timeout_s
    return limit if limit and limit > 0 else None
