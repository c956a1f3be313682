"""What a stage came to: the outcome value, and how a run ends."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

from kilroy_engine.graph.statuses import STATUS_ALIASES, Json, Status, read_status

__all__ = ["STATUS_ALIASES", "FinalStatus", "Json", "Outcome", "Status", "failure", "read_status", "success"]


class FinalStatus(StrEnum):
    """How a run ended. ``canceled`` on disk, ``Cancelled`` when naming Prefect's state."""

    SUCCESS = "success"
    FAIL = "fail"
    CANCELED = "canceled"


@dataclass(frozen=True)
class Outcome:
    """Result of a stage (Spec 5.2). Also the content of ``status.json`` in Kilroy's field names.

    ``failure_class`` is one of :class:`kilroy_engine.traversal.failure.FailureClass` or empty. ``failure_signature`` is what
    makes this failure the same as another one, empty where reason and output do. ``timed_out``: the stage ran into its time
    limit. ``meta`` is for readers: what else a stage says of itself. The engine looks for nothing in it.

    The other fields are the engine's own; they are in no ``status.json``. ``verdict``: an agent judged so itself, and a FAIL of
    this kind is never retried. ``retries`` are the attempts beyond the first that were used up in vain, ``session`` continues
    the agent's conversation, ``output_digest`` stands for an output that ``tool.output`` does not hold whole, ``committed`` is
    the commit that holds the work already, ``loop_file_seen`` tells whether the file that ends a loop was there when the stage
    was over, None where no loop ends at the node. ``retry_after_s`` is how long whoever refused asks to wait before another
    attempt, None where nobody said.
    """

    status: str
    preferred_label: str = ""
    suggested_next_ids: tuple[str, ...] = ()
    context_updates: Mapping[str, Json] = field(default_factory=dict[str, Json])
    notes: str = ""
    failure_reason: str = ""
    failure_class: str = ""
    verification: Json = None
    details: Json = None
    meta: Mapping[str, Json] = field(default_factory=dict[str, Json])
    failure_signature: str = ""
    timed_out: bool = False
    verdict: bool = False
    retries: int = 0
    session: str = ""
    output_digest: str = ""
    committed: str = ""
    loop_file_seen: bool | None = None
    retry_after_s: float | None = None

    @property
    def failed(self) -> bool:
        """Failure-like: ``fail`` or ``retry``."""
        return self.status in (Status.FAIL, Status.RETRY)

    @property
    def succeeded(self) -> bool:
        """Success-like for retries: success, partial_success or skipped."""
        return self.status in (Status.SUCCESS, Status.PARTIAL_SUCCESS, Status.SKIPPED)

    @property
    def satisfies_gate(self) -> bool:
        """Whether a goal gate accepts it: success or partial_success (Spec 3.4)."""
        return self.status in (Status.SUCCESS, Status.PARTIAL_SUCCESS)

    @property
    def custom(self) -> bool:
        """Whether the status is a word of the pipeline's own."""
        return self.status not in tuple(Status)

    def with_updates(self, **changes: object) -> Outcome:
        """A copy with some fields changed."""
        return replace(self, **changes)  # type: ignore[arg-type]


def success(notes: str = "", **context_updates: Json) -> Outcome:
    """Shorthand for a plain success."""
    return Outcome(Status.SUCCESS, notes=notes, context_updates=context_updates)


def failure(reason: str, *, failure_class: str = "", **context_updates: Json) -> Outcome:
    """Shorthand for a plain failure with a reason."""
    return Outcome(Status.FAIL, failure_reason=reason, failure_class=failure_class, context_updates=context_updates)
