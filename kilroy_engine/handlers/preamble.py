"""The part of a prompt that tells an agent about the run before its task, by mode of fidelity (Spec 5.4).

Each mode has a budget in tokens; four bytes of UTF-8 count as one token. The goal is always complete and does not count. An
entry that does not fit is left out as a whole, older stages first, and a line says how many entries are missing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from kilroy_engine.graph.conditions import stringify
from kilroy_engine.graph.vocabulary import Fidelity
from kilroy_engine.handlers.base import StageRequest
from kilroy_engine.traversal.artifact import read_artifact_reference
from kilroy_engine.traversal.outcome import Json, Outcome

BYTES_PER_TOKEN = 4
_STAGES_SHARE = 0.6
"""The part of the budget that stages may use before the values are added."""
_LEFT_OUT_BYTES = 64
"""Bytes reserved for the line that says how many entries are missing."""


@dataclass(frozen=True, slots=True)
class Detail:
    """How much a mode tells. ``stages`` and ``values`` are the largest number of entries of each kind. The fields in characters
    limit one entry."""

    budget_tokens: int
    stages: int
    values: int
    note_characters: int = 0
    value_characters: int = 120
    output_characters: int = 0
    counts: bool = False

    @property
    def budget_bytes(self) -> int:
        return self.budget_tokens * BYTES_PER_TOKEN


DETAILS: dict[Fidelity, Detail] = {
    Fidelity.COMPACT: Detail(1000, stages=25, values=25),
    Fidelity.SUMMARY_LOW: Detail(600, stages=3, values=0, note_characters=120, counts=True),
    Fidelity.SUMMARY_MEDIUM: Detail(1500, stages=10, values=25, note_characters=200, counts=True),
    Fidelity.SUMMARY_HIGH: Detail(
        3000, stages=50, values=60, note_characters=600, value_characters=1000, output_characters=400, counts=True
    ),
}
"""The modes that tell more than the run and its goal."""

_TOLD_ELSEWHERE = frozenset(
    {"inputs", "base_sha", "current_node", "previous_node", "previous_outcome", "completed_nodes", "last_stage"}
    | {"outcome", "preferred_label", "failure_reason", "failure_class", "tool.stdout", "tool_stdout", "tool.exit_status"}
)
_ENGINE_PREFIXES = ("graph.", "internal.", "context.failure_dossier.")
_LATER_PREFIXES = ("input.", "tool.", "human.", "last_", "parallel.")


def preamble(request: StageRequest) -> str:
    """The text above the task. Empty if the agent continues a session, because the session holds the earlier stages.

    The first stage of a thread has no session to continue. It gets the text of ``summary:high``.
    """
    mode = request.carried.fidelity
    if mode is Fidelity.FULL:
        if request.carried.session:
            return ""
        mode = Fidelity.SUMMARY_HIGH
    goal = stringify(request.context.get("graph.goal")).strip()
    head = ["THE RUN SO FAR", f"Run: {request.run_id}", *([f"Goal: {goal}"] if goal else [])]
    detail = DETAILS.get(mode)
    return "\n".join(head if detail is None else [*head, *_detail_lines(request, detail)])


def _detail_lines(request: StageRequest, detail: Detail) -> list[str]:
    completed = _completed(request)
    lines = [_count_line(request, completed)] if detail.counts and completed else []
    left = detail.budget_bytes - _size(lines)
    stages = [_stage(request, node_id, detail) for node_id in reversed(_latest_last(completed))]
    told = _fitting(stages, detail.stages, int(left * (_STAGES_SHARE if detail.values else 1)))
    if told:
        missing = len(stages) - len(told)
        lines += ["Stages, oldest first:", *([f"- ({missing} earlier stages)"] if missing else []), *reversed(told)]
    if detail.values:
        values = [_value(key, request.context[key], detail) for key in _shown_keys(request)]
        shown = _fitting(values, detail.values, detail.budget_bytes - _size(lines))
        missing = len(values) - len(shown)
        if shown:
            lines += ["Values:", *shown, *([f"- ({missing} more values)"] if missing else [])]
    return lines


def _completed(request: StageRequest) -> list[str]:
    """Ids of the nodes of the completed visits, in order."""
    completed = request.context.get("completed_nodes")
    return [node_id for node_id in completed if isinstance(node_id, str)] if isinstance(completed, list) else []


def _latest_last(completed: Sequence[str]) -> list[str]:
    """Each node once, ordered by its last completion."""
    return list(reversed(dict.fromkeys(reversed(completed))))


def _count_line(request: StageRequest, completed: Sequence[str]) -> str:
    """A line such as ``7 visits of 5 nodes; last outcomes: 4 success, 1 fail.``"""
    nodes = dict.fromkeys(completed)
    statuses = Counter(str(request.outcomes[node_id].status) for node_id in nodes if node_id in request.outcomes)
    tally = ", ".join(f"{count} {status}" for status, count in sorted(statuses.items(), key=lambda item: (-item[1], item[0])))
    return f"{len(completed)} visits of {len(nodes)} nodes; last outcomes: {tally or 'unknown'}."


def _stage(request: StageRequest, node_id: str, detail: Detail) -> str:
    outcome = request.outcomes.get(node_id)
    visits = _completed(request).count(node_id)
    name = f"{node_id} ({visits} visits)" if visits > 1 else node_id
    if outcome is None:
        return f"- {name}"
    parts = [f"- {name}: {outcome.status}"]
    if outcome.failure_reason:
        parts.append(_cut(outcome.failure_reason, detail.note_characters or detail.value_characters))
    if outcome.notes and detail.note_characters:
        parts.append(_cut(outcome.notes, detail.note_characters))
    return "; ".join(parts) + _output(outcome, detail)


def _output(outcome: Outcome, detail: Detail) -> str:
    """The stage's output or answer, on a line of its own."""
    found = (outcome.context_updates.get(key) for key in ("tool.output", "last_response"))
    text = next((value for value in found if isinstance(value, str) and value.strip()), "")
    return f"\n  said: {_cut(text, detail.output_characters)}" if text and detail.output_characters else ""


def _shown_keys(request: StageRequest) -> list[str]:
    """The keys that the pipeline's own stages set, then inputs and keys of handlers, each in alphabetical order."""
    keys = [key for key in request.context if key not in _TOLD_ELSEWHERE and not key.startswith(_ENGINE_PREFIXES)]
    return sorted(keys, key=lambda key: (key.startswith(_LATER_PREFIXES), key))


def _value(key: str, value: Json, detail: Detail) -> str:
    reference = read_artifact_reference(value)
    if reference is not None:
        return f"- {key}: {reference.size_bytes} bytes, to be read in {reference.path}"
    return f"- {key}: {_cut(stringify(value), detail.value_characters)}"


def _fitting(lines: Iterable[str], most: int, budget_bytes: int) -> list[str]:
    """The first of ``lines``: at most ``most``, and no more than the budget holds."""
    kept: list[str] = []
    left = budget_bytes - _LEFT_OUT_BYTES
    for line in lines:
        left -= _size([line])
        if left < 0 or len(kept) == most:
            break
        kept.append(line)
    return kept


def _size(lines: Iterable[str]) -> int:
    return sum(len(line.encode(errors="replace")) + 1 for line in lines)


def _cut(text: str, characters: int) -> str:
    line = " ".join(text.split())
    return line if len(line) <= characters else f"{line[: max(0, characters - 1)]}…"
