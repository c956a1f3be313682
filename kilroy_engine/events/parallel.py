"""Events about parallel branches and child pipelines."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, TypeAlias

from kilroy_engine.events.base import (
    Event,
    FailureClass,
    FailureReason,
    NodeId,
    Signature,
    SignatureCount,
    SignatureLimit,
)

BranchKey: TypeAlias = Annotated[str, "key of the branch: the node it begins at"]
BranchLogsRoot: TypeAlias = Annotated[str, "directory of the branch"]
LastEvent: TypeAlias = Annotated[str, "last event of the branch"]
LastEventAt: TypeAlias = Annotated[str, "its time, RFC 3339"]
IdleMs: TypeAlias = Annotated[int, "time since then, milliseconds"]


@dataclass(frozen=True, slots=True, kw_only=True)
class BranchProgress(Event):
    """Something happened in a branch. The branch's own `progress.ndjson` holds the whole event."""

    event: ClassVar[str] = "branch_progress"
    says: ClassVar[str] = "branch {branch_key}{where:more}: {what:more}"
    branch_key: BranchKey
    branch_logs_root: BranchLogsRoot
    branch_event: Annotated[str, "event of the branch, or a step of its life such as `branch_setup_ready`"]
    branch_node_id: Annotated[str | None, "its `node_id`"] = None
    branch_status: Annotated[str | None, "its `status`"] = None
    branch_failure_reason: Annotated[str | None, "its `failure_reason`"] = None
    branch_attempt: Annotated[int | None, "its `attempt`"] = None
    branch_max: Annotated[int | None, "its `max`"] = None
    branch_from_node: Annotated[str | None, "its `from_node`"] = None
    branch_to_node: Annotated[str | None, "its `to_node`"] = None
    warning: Annotated[str | None, "text of a warning"] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BranchHeartbeat(Event):
    """A branch is still at work."""

    event: ClassVar[str] = "branch_heartbeat"
    says: ClassVar[str] = ""
    branch_key: BranchKey
    branch_logs_root: BranchLogsRoot
    branch_last_event: LastEvent
    branch_last_event_at: LastEventAt
    branch_idle_ms: IdleMs


@dataclass(frozen=True, slots=True, kw_only=True)
class BranchStaleWarning(Event):
    """A branch had no event for a long time. Written at most once a minute for each branch."""

    event: ClassVar[str] = "branch_stale_warning"
    says: ClassVar[str] = "branch {branch_key}: silent for {branch_idle_ms:ms}, last was {branch_last_event}"
    branch_key: BranchKey
    branch_logs_root: BranchLogsRoot
    branch_last_event: LastEvent
    branch_last_event_at: LastEventAt
    branch_idle_ms: IdleMs
    stale_threshold_ms: Annotated[int, "silence that is told, milliseconds"] = 300_000


@dataclass(frozen=True, slots=True, kw_only=True)
class EarlyTermination(Event):
    """The fan-out's outcome is certain, so the branches that still work are stopped."""

    event: ClassVar[str] = "early_termination"
    says: ClassVar[str] = "{node_id}: the other branches are stopped, {received} of {total} answered{reason:because}"
    node_id: NodeId
    reason: Annotated[str, 'for example `fail_fast: branch "b" failed`']
    received: Annotated[int, "branches that answered"]
    total: Annotated[int, "branches in all"]
    success_so_far: Annotated[int, "of those, succeeded"]
    fail_so_far: Annotated[int, "of those, failed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class FanInIgnoredFilesWarning(Event):
    """Git-ignored files of the winning branch could not be brought over."""

    event: ClassVar[str] = "fan_in_ignored_files_warning"
    says: ClassVar[str] = "{node_id}: ignored files of {winner_key} were not brought over{warning:because}"
    node_id: NodeId
    winner_key: BranchKey
    warning: Annotated[str, "what is wrong"]


@dataclass(frozen=True, slots=True, kw_only=True)
class FanInCopyWarning(Event):
    """The winning branch's folder could not be brought over whole (run without a repository)."""

    event: ClassVar[str] = "fan_in_copy_warning"
    says: ClassVar[str] = "{node_id}: the work of {winner_key} was not brought over whole{warning:because}"
    node_id: NodeId
    winner_key: BranchKey
    warning: Annotated[str, "what is wrong"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SubgraphCanceledExit(Event):
    """A branch or a child pipeline saw that the run is canceled."""

    event: ClassVar[str] = "subgraph_canceled_exit"
    says: ClassVar[str] = ""
    node_id: NodeId
    last_node_id: Annotated[str, "last completed node"]
    failure_reason: FailureReason


@dataclass(frozen=True, slots=True, kw_only=True)
class SubgraphStructuralFailureAbort(Event):
    """A structural failure ends a branch or a child pipeline at once."""

    event: ClassVar[str] = "subgraph_structural_failure_abort"
    says: ClassVar[str] = ""
    node_id: NodeId
    failure_class: FailureClass
    failure_reason: FailureReason


@dataclass(frozen=True, slots=True, kw_only=True)
class SubgraphDeterministicFailureCycleCheck(Event):
    """`deterministic_failure_cycle_check` inside a branch or a child pipeline."""

    event: ClassVar[str] = "subgraph_deterministic_failure_cycle_check"
    says: ClassVar[str] = ""
    node_id: NodeId
    signature: Signature
    signature_count: SignatureCount
    signature_limit: SignatureLimit
    failure_class: FailureClass
    failure_reason: FailureReason


@dataclass(frozen=True, slots=True, kw_only=True)
class SubgraphDeterministicFailureCycleBreaker(Event):
    """`deterministic_failure_cycle_breaker` inside a branch or a child pipeline."""

    event: ClassVar[str] = "subgraph_deterministic_failure_cycle_breaker"
    says: ClassVar[str] = "{node_id}: stopped, the same failure came {signature_count} times (limit {signature_limit})"
    node_id: NodeId
    signature: Signature
    signature_count: SignatureCount
    signature_limit: SignatureLimit
