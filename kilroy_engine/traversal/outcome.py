"""The outcome of a stage, and the final status of a run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

from kilroy_engine.graph.statuses import STATUS_ALIASES, Json, Status, read_status

__all__ = ["STATUS_ALIASES", "FinalStatus", "Json", "Outcome", "Status", "failure", "read_status", "success"]


class FinalStatus(StrEnum):
    """How a run ended. ``canceled`` is the word on disk, ``Cancelled`` the name of Prefect's state."""

    SUCCESS = "success"
    FAIL = "fail"
    CANCELED = "canceled"


@dataclass(frozen=True)
class Outcome:
    """Result of a stage (Spec 5.2). Also the content of ``status.json``, in Kilroy's field names.

    - ``failure_class``: a :class:`kilroy_engine.traversal.failure.FailureClass` or empty.
    - ``failure_signature``: the stage's own text for equal failures; where it is empty, reason and output make the signature.
    - ``timed_out``: the stage reached its time limit.
    - ``meta``: what else a stage says of itself, for readers. The engine never reads ``meta``.

    The other fields are the engine's own and not in ``status.json``:

    - ``verdict``: the agent itself chose the status. Such a FAIL is never retried.
    - ``retries``: how many attempts beyond the first were used in vain.
    - ``session``: the id by which the agent's session is continued.
    - ``output_digest``: digest of a tool's whole output where ``tool.output`` holds only a part.
    - ``committed``: the commit that already holds the stage's work.
    - ``retry_after_s``: how long a provider asks to wait before another attempt. None where no provider said so.
    - ``loop_file_seen``: whether the file that ends a loop existed after the stage. None where no loop ends at the node.
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
        """Whether the status is fail or retry."""
        return self.status in (Status.FAIL, Status.RETRY)

    @property
    def succeeded(self) -> bool:
        """Whether the status counts as a success for retries: success, partial_success or skipped."""
        return self.status in (Status.SUCCESS, Status.PARTIAL_SUCCESS, Status.SKIPPED)

    @property
    def satisfies_gate(self) -> bool:
        """Whether a goal gate accepts the outcome: success or partial_success (Spec 3.4)."""
        return self.status in (Status.SUCCESS, Status.PARTIAL_SUCCESS)

    @property
    def custom(self) -> bool:
        """Whether the status is the pipeline's own word."""
        return self.status not in tuple(Status)

    def with_updates(self, **changes: object) -> Outcome:
        """A copy with some fields changed."""
        return replace(self, **changes)  # type: ignore[arg-type]


def success(notes: str = "", **context_updates: Json) -> Outcome:
    """Makes an outcome with the status success."""
    return Outcome(Status.SUCCESS, notes=notes, context_updates=context_updates)


def failure(reason: str, *, failure_class: str = "", **context_updates: Json) -> Outcome:
    """Makes an outcome with the status fail."""
    return Outcome(Status.FAIL, failure_reason=reason, failure_class=failure_class, context_updates=context_updates)
