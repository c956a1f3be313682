"""Events about the run as a whole: start, end, cancellation, restarts, set-up, push."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal, TypeAlias

from kilroy_engine.events.base import (
    Event,
    FailureClass,
    FailureReason,
    Message,
    NodeId,
    Signature,
    SignatureCount,
    SignatureLimit,
)

StartNumber: TypeAlias = Annotated[int, "process life of the run: 1, then 2 after a resume, …"]
Remote: TypeAlias = Annotated[str, "git remote"]
Branch: TypeAlias = Annotated[str, "run branch"]
CommandIndex: TypeAlias = Annotated[int, "place of the command in the settings, counted from 0"]
Command: TypeAlias = Annotated[str, "the command"]
TargetNode: TypeAlias = Annotated[str, "node that the restart begins at"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStarted(Event):
    """The run has started. The first event of every run."""

    event: ClassVar[str] = "run_started"
    says: ClassVar[str] = "run {run_id} started: {graph_name}{goal:because}"
    flow_run_id: Annotated[str, "id of the Prefect flow run"]
    graph_name: Annotated[str, "name of the pipeline"]
    goal: Annotated[str, "the pipeline's goal; may be empty"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunResumed(Event):
    """A new start goes on with the run. No other event may follow a terminal line."""

    event: ClassVar[str] = "run_resumed"
    says: ClassVar[str] = "run resumed at {from_node} (start {start}, was {previous_status})"
    start: StartNumber
    from_node: Annotated[str, "last completed node of the checkpoint; empty when nothing was completed"]
    previous_status: Annotated[str, "how the previous start ended: `success`, `fail` or `canceled`"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunCompleted(Event):
    """Terminal: the run succeeded. `final.json` is there and says the same."""

    event: ClassVar[str] = "run_completed"
    says: ClassVar[str] = "run {status}"
    status: Annotated[Literal["success"], "always `success`"] = "success"
    start: StartNumber


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFailed(Event):
    """Terminal: the run failed or was canceled. `final.json` is there and says the same."""

    event: ClassVar[str] = "run_failed"
    says: ClassVar[str] = "run {status}{reason:because}"
    status: Annotated[Literal["fail", "canceled"], "`fail` or `canceled`"]
    reason: Annotated[str | None, "`failure_reason` of `final.json`; left out when empty"] = None
    start: StartNumber


TERMINAL_EVENTS = frozenset({RunCompleted.event, RunFailed.event})
"""Names of the terminal events. Each start ends with one of these events, as the last line of ``progress.ndjson``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelRequested(Event):
    """Somebody asked the run to stop. The terminal line follows when all work has stopped."""

    event: ClassVar[str] = "cancel_requested"
    says: ClassVar[str] = "cancel requested: {source}"
    source: Annotated[str, "who asked, as it completes `canceled: …`, for example `by kilroy stop`"]


@dataclass(frozen=True, slots=True, kw_only=True)
class WarningGiven(Event):
    """A fact that a person should know. The warning does not change the course of the run."""

    event: ClassVar[str] = "warning"
    says: ClassVar[str] = "warning: {message}"
    message: Message


@dataclass(frozen=True, slots=True, kw_only=True)
class StallWatchdogTimeout(Event):
    """For too long there was neither an event nor a line of output. The run ends as failed."""

    event: ClassVar[str] = "stall_watchdog_timeout"
    says: ClassVar[str] = "stalled: nothing happened for {idle_ms:ms}"
    stall_timeout_ms: Annotated[int, "limit, milliseconds"]
    idle_ms: Annotated[int, "time since the last event, milliseconds"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SetupCommandStart(Event):
    """A set-up command from the settings is about to run."""

    event: ClassVar[str] = "setup_command_start"
    says: ClassVar[str] = ""
    index: CommandIndex
    command: Command


@dataclass(frozen=True, slots=True, kw_only=True)
class SetupCommandOk(Event):
    """A set-up command succeeded."""

    event: ClassVar[str] = "setup_command_ok"
    says: ClassVar[str] = "set-up: {command:short}: ok"
    index: CommandIndex
    command: Command
    stdout: Annotated[str, "its output, trimmed"]
    warning: Annotated[str | None, "a background child kept the output open after the command's end"] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SetupCommandFailed(Event):
    """A set-up command failed. The run ends."""

    event: ClassVar[str] = "setup_command_failed"
    says: ClassVar[str] = "set-up: {command:short}: failed{error:because}"
    index: CommandIndex
    command: Command
    error: Annotated[str, "what went wrong, for example `exit status 2`"]
    stdout: Annotated[str, "its output, trimmed"]
    stderr: Annotated[str, "its error output, trimmed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class GitPushStart(Event):
    """The run branch is about to be pushed, at the end of the run or at a restart."""

    event: ClassVar[str] = "git_push_start"
    says: ClassVar[str] = ""
    remote: Remote
    branch: Branch


@dataclass(frozen=True, slots=True, kw_only=True)
class GitPushOk(Event):
    """The run branch was pushed."""

    event: ClassVar[str] = "git_push_ok"
    says: ClassVar[str] = "pushed {branch} to {remote}"
    remote: Remote
    branch: Branch


@dataclass(frozen=True, slots=True, kw_only=True)
class GitPushFailed(Event):
    """The push failed. A `warning` precedes it; the run's status does not change."""

    event: ClassVar[str] = "git_push_failed"
    says: ClassVar[str] = "push of {branch} to {remote} failed{error:because}"
    remote: Remote
    branch: Branch
    error: Annotated[str, "what git said"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopRestart(Event):
    """The walk took a `loop_restart` edge. The event stands in the directory that the run leaves."""

    event: ClassVar[str] = "loop_restart"
    says: ClassVar[str] = "restart {restart_count} at {target_node}"
    restart_count: Annotated[int, "restarts so far, this one included"]
    target_node: TargetNode
    new_logs_root: Annotated[str, "directory of the new attempt"]
    retry_budget_reset: Annotated[Literal[True], "always true: retry counters begin anew"] = True
    persist_keys: Annotated[tuple[str, ...], "context keys that are carried over"] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopRestartBlocked(Event):
    """A restart after a failure was refused, because the failure's class is not `transient_infra`. The run ends."""

    event: ClassVar[str] = "loop_restart_blocked"
    says: ClassVar[str] = "{node_id}: no restart at {target_node} after a failure of class {failure_class}"
    target_node: TargetNode
    node_id: NodeId
    failure_class: FailureClass
    failure_reason: FailureReason


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopRestartSignature(Event):
    """A failure leads to a restart, and the signature of the failure was counted."""

    event: ClassVar[str] = "loop_restart_signature"
    says: ClassVar[str] = ""
    target_node: TargetNode
    node_id: NodeId
    signature: Signature
    signature_count: SignatureCount
    signature_limit: SignatureLimit
    failure_reason: FailureReason
    failure_class: FailureClass
    restart_count: Annotated[int, "restarts so far"]
    current_logs_root: Annotated[str, "directory of the attempt that failed"] = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopRestartCircuitBreaker(Event):
    """The same failure led to a restart too often. The run ends."""

    event: ClassVar[str] = "loop_restart_circuit_breaker"
    says: ClassVar[str] = (
        "{node_id}: no restart at {target_node}, the same failure came {signature_count} times (limit {signature_limit})"
    )
    target_node: TargetNode
    node_id: NodeId
    signature: Signature
    signature_count: SignatureCount
    signature_limit: SignatureLimit
