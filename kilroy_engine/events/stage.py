"""Events of one stage: attempts, retries, breakers, checkpoints, agents and tools, human gates, inputs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal, TypeAlias

from kilroy_engine.events.base import (
    Attempt,
    Event,
    FailureClass,
    FailureReason,
    MaxAttempts,
    MaxRetries,
    NodeId,
    Signature,
    SignatureCount,
    SignatureLimit,
    StageStatus,
    VisitNumber,
)

InputScope: TypeAlias = Annotated[str, "`run_startup`, `stage`, `branch` or `resume`"]
StageNode: TypeAlias = Annotated[str | None, "id of the node; only for scope `stage`"]
Backend: TypeAlias = Annotated[str, "`cli` for a program, `api` for an agent in the engine's own process"]
BudgetScope: TypeAlias = Annotated[str, "`run` or `node`"]
BudgetUnit: TypeAlias = Annotated[str, "`usd` or `tokens`"]
BudgetNode: TypeAlias = Annotated[str | None, "id of the node; only for scope `node`"]
SessionTool: TypeAlias = Annotated[str, "agent tool, for example `claude`"]
Session: TypeAlias = Annotated[str, "name of the tmux session"]


@dataclass(frozen=True, slots=True, kw_only=True)
class StageAttemptStart(Event):
    """An attempt at a stage begins. Exit nodes have this event too."""

    event: ClassVar[str] = "stage_attempt_start"
    says: ClassVar[str] = "{node_id}: started{attempts:more}"
    node_id: NodeId
    attempt: Attempt
    max: MaxAttempts


@dataclass(frozen=True, slots=True, kw_only=True)
class StageAttemptEnd(Event):
    """An attempt at a stage has ended."""

    event: ClassVar[str] = "stage_attempt_end"
    says: ClassVar[str] = "{node_id}: {status}{took:more}{failure_reason:because}"
    node_id: NodeId
    attempt: Attempt
    max: MaxAttempts
    status: StageStatus
    failure_reason: Annotated[str, "why it failed; empty when it did not"] = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputContractViolated(Event):
    """An attempt succeeded but did not leave a file that the node declares as output. The attempt counts as failed."""

    event: ClassVar[str] = "output_contract_violated"
    says: ClassVar[str] = "{node_id}: a declared output is missing{failure_reason:because}"
    node_id: NodeId
    attempt: Attempt
    failure_reason: FailureReason


@dataclass(frozen=True, slots=True, kw_only=True)
class EscalationModelSwitch(Event):
    """The next attempt at an agent node has another model, the next one of `escalation_models`."""

    event: ClassVar[str] = "escalation_model_switch"
    says: ClassVar[str] = "{node_id}: goes over from {from_model:or its model} to {to_model} of {to_provider}"
    node_id: NodeId
    attempt: Attempt
    from_provider: Annotated[str, "provider so far; may be empty"]
    from_model: Annotated[str, "model so far; may be empty"]
    to_provider: Annotated[str, "provider from now on"]
    to_model: Annotated[str, "model from now on"]
    escalation_idx: Annotated[int, "place in the list, counted from 0"]
    failure_class: FailureClass


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryDecision(Event):
    """An attempt did not succeed. The event says whether another attempt follows."""

    event: ClassVar[str] = "retry_decision"
    says: ClassVar[str] = "{node_id}: not tried again after attempt {attempt}"
    node_id: NodeId
    attempt: Attempt
    max_retries: MaxRetries
    will_retry: Annotated[bool, "whether another attempt follows"]
    reason: Annotated[
        str,
        "the failure's reason and `, attempts remaining`, `, max retries exhausted` or `, failure_class=<class> not retryable`",
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class StageRetrySleep(Event):
    """The pause between two attempts begins."""

    event: ClassVar[str] = "stage_retry_sleep"
    says: ClassVar[str] = "{node_id}: next attempt in {delay_ms:ms} (retry {retries} of {max_retry})"
    node_id: NodeId
    attempt: Attempt
    delay_ms: Annotated[int, "length of the pause, milliseconds"]
    retries: Annotated[int, "retries so far, the coming one included"]
    max_retry: MaxRetries


@dataclass(frozen=True, slots=True, kw_only=True)
class StageRetryBlocked(Event):
    """Attempts were left, but a failure of this class is not retried."""

    event: ClassVar[str] = "stage_retry_blocked"
    says: ClassVar[str] = ""
    node_id: NodeId
    attempt: Attempt
    max: MaxAttempts
    status: StageStatus
    failure_reason: FailureReason
    failure_class: FailureClass
    max_retry: MaxRetries


@dataclass(frozen=True, slots=True, kw_only=True)
class FailureDossierUpdated(Event):
    """A stage failed and `failure_dossier.json` describes it."""

    event: ClassVar[str] = "failure_dossier_updated"
    says: ClassVar[str] = ""
    failed_node_id: NodeId
    failure_class: FailureClass
    path: Annotated[str, "`.ai/runs/<run id>/failure_dossier.json` in the work folder, else the run directory's file"]


@dataclass(frozen=True, slots=True, kw_only=True)
class DeterministicFailureCycleCheck(Event):
    """A failure that another attempt would not mend was counted by its signature."""

    event: ClassVar[str] = "deterministic_failure_cycle_check"
    says: ClassVar[str] = ""
    node_id: NodeId
    signature: Signature
    signature_count: SignatureCount
    signature_limit: SignatureLimit
    failure_class: FailureClass
    failure_reason: FailureReason


@dataclass(frozen=True, slots=True, kw_only=True)
class DeterministicFailureCycleBreaker(Event):
    """The same failure came too often. The run ends."""

    event: ClassVar[str] = "deterministic_failure_cycle_breaker"
    says: ClassVar[str] = "{node_id}: stopped, the same failure came {signature_count} times (limit {signature_limit})"
    node_id: NodeId
    signature: Signature
    signature_count: SignatureCount
    signature_limit: SignatureLimit


@dataclass(frozen=True, slots=True, kw_only=True)
class StuckCycleBreaker(Event):
    """A node was visited too often. The run ends."""

    event: ClassVar[str] = "stuck_cycle_breaker"
    says: ClassVar[str] = "{node_id}: stopped after {visit_count} visits (limit {visit_limit})"
    node_id: NodeId
    visit_count: Annotated[int, "visits of the node, the refused one included"]
    visit_limit: Annotated[int, "visits allowed"]
    subgraph: Annotated[Literal[True] | None, "true inside a branch or a child pipeline"] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointSaved(Event):
    """`checkpoint.json` holds the state after this node."""

    event: ClassVar[str] = "checkpoint_saved"
    says: ClassVar[str] = ""
    node_id: NodeId
    git_commit_sha: Annotated[str, "commit of the stage; empty without a repository"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ArtifactSaved(Event):
    """A value was too large for the context and is kept as a file."""

    event: ClassVar[str] = "artifact"
    says: ClassVar[str] = "{node_id:or input}: artifact {name} ({path})"
    node_id: Annotated[str, "id of the node that set it; empty for an input of the run"]
    name: Annotated[str, "the context key, or the input's name"]
    path: Annotated[str, "its file, relative to the run directory"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LlmUsage(Event):
    """What a model call cost."""

    event: ClassVar[str] = "llm_usage"
    says: ClassVar[str] = "{node_id}: {model}: {input_tokens} tokens in, {output_tokens} out{cost_usd:usd}"
    node_id: NodeId
    provider: Annotated[str, "provider key, for example `anthropic`; empty where nobody says"] = ""
    model: Annotated[str, "model as the provider names it"]
    input_tokens: Annotated[int, "tokens read, those that the provider had kept included"]
    output_tokens: Annotated[int, "tokens written"]
    cached_input_tokens: Annotated[int | None, "tokens read that the provider had kept; left out when none"] = None
    cost_usd: Annotated[float | None, "cost in US dollars; left out when unknown"] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderSelected(Event):
    """Which provider and model serve an agent node."""

    event: ClassVar[str] = "provider_selected"
    says: ClassVar[str] = "{node_id}: works with {model} of {provider} ({backend})"
    node_id: NodeId
    provider: Annotated[str, "provider key, for example `anthropic`"]
    model: Annotated[str, "model"]
    backend: Backend
    source: Annotated[str, "where the choice comes from, for example `graph_attrs`"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LlmRetry(Event):
    """A model call failed for a reason that may pass. The agent repeats the call."""

    event: ClassVar[str] = "llm_retry"
    says: ClassVar[str] = "{node_id}: {model} failed, call {attempt} of {max}, again in {delay_ms:ms}{error:because}"
    node_id: NodeId
    provider: Annotated[str, "provider key"]
    model: Annotated[str, "model"]
    attempt: Annotated[int, "calls so far"]
    max: Annotated[int, "calls allowed"]
    delay_ms: Annotated[int, "pause before the next call, milliseconds"]
    error: Annotated[str, "what the call failed with"]
    retryable: Annotated[Literal[True], "always true"] = True


@dataclass(frozen=True, slots=True, kw_only=True)
class LlmToolCallStart(Event):
    """An agent begins to use one of its tools."""

    event: ClassVar[str] = "llm_tool_call_start"
    says: ClassVar[str] = ""
    node_id: NodeId
    backend: Backend
    tool_name: Annotated[str, "the tool, as the agent calls it"]
    call_id: Annotated[str, "what ties start and end together"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LlmToolCallEnd(Event):
    """A tool of an agent's is done."""

    event: ClassVar[str] = "llm_tool_call_end"
    says: ClassVar[str] = ""
    node_id: NodeId
    backend: Backend
    tool_name: Annotated[str, "the tool, as the agent calls it"]
    call_id: Annotated[str, "what ties start and end together"]
    is_error: Annotated[Literal[True] | None, "true when it failed"] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LlmTurnEnd(Event):
    """The model has answered once."""

    event: ClassVar[str] = "llm_turn_end"
    says: ClassVar[str] = ""
    node_id: NodeId
    backend: Backend
    text_length: Annotated[int, "characters of text in the answer"]
    tool_call_count: Annotated[int, "tools that the answer asks for"]


@dataclass(frozen=True, slots=True, kw_only=True)
class StageHeartbeat(Event):
    """A long stage is still at work. Agent processes report bytes, agents driven through an API report events."""

    event: ClassVar[str] = "stage_heartbeat"
    says: ClassVar[str] = "{node_id}: still running after {elapsed_s:s}, last output {since_last_output_s:s} ago"
    node_id: NodeId
    elapsed_s: Annotated[int, "seconds since the attempt began"]
    since_last_output_s: Annotated[int, "seconds since the last output"]
    stdout_bytes: Annotated[int | None, "bytes of output so far"] = None
    stderr_bytes: Annotated[int | None, "bytes of error output so far"] = None
    event_count: Annotated[int | None, "events of the agent so far"] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetWarning(Event):
    """Four fifths of a limit on what models may cost are spent."""

    event: ClassVar[str] = "budget_warning"
    says: ClassVar[str] = "{node_id:or run}: {spent} of {limit} {unit} are spent"
    scope: BudgetScope
    unit: BudgetUnit
    spent: Annotated[float, "spent so far"]
    limit: Annotated[float, "the limit"]
    node_id: BudgetNode = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetExhausted(Event):
    """A limit on what models may cost is passed. The run ends, or the attempt where it is the node's limit."""

    event: ClassVar[str] = "budget_exhausted"
    says: ClassVar[str] = "{node_id:or run}: its budget is exhausted, {spent} of {limit} {unit} are spent"
    scope: BudgetScope
    unit: BudgetUnit
    spent: Annotated[float, "spent so far"]
    limit: Annotated[float, "the limit"]
    node_id: BudgetNode = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusContract(Event):
    """Where an agent is told to leave its status file."""

    event: ClassVar[str] = "status_contract"
    says: ClassVar[str] = ""
    node_id: NodeId
    status_path: Annotated[str, "file the agent should write"]
    status_fallback_path: Annotated[str, "file that is looked at second"]


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusIngestionDecision(Event):
    """Where an agent's status was found."""

    event: ClassVar[str] = "status_ingestion_decision"
    says: ClassVar[str] = ""
    node_id: NodeId
    source: Annotated[str, "`canonical`, `worktree`, `dot_ai`, or empty when there was none"]
    copied: Annotated[bool, "whether it was copied into the stage folder"]
    diagnostic: Annotated[str | None, "what was wrong with a file that was passed over"] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TmuxSessionStart(Event):
    """An agent's tmux session was started."""

    event: ClassVar[str] = "tmux_session_start"
    says: ClassVar[str] = "{node_id}: {tool} started in tmux session {session}"
    by_agents: ClassVar[bool] = True
    node_id: NodeId
    tool: SessionTool
    session: Session


@dataclass(frozen=True, slots=True, kw_only=True)
class TmuxSessionComplete(Event):
    """An agent's tmux session ended."""

    event: ClassVar[str] = "tmux_session_complete"
    says: ClassVar[str] = "{node_id}: {tool} ended with exit code {exit_code}"
    by_agents: ClassVar[bool] = True
    node_id: NodeId
    tool: SessionTool
    session: Session
    exit_code: Annotated[int, "exit code of the tool"]
    output_len: Annotated[int, "characters of output"]
    wait_error: Annotated[str, "why waiting failed; `<nil>` when it did not"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ManagerLoopCycle(Event):
    """A supervisor looked at its child pipeline."""

    event: ClassVar[str] = "manager_loop_cycle"
    says: ClassVar[str] = "{node_id}: cycle {cycle} of {max_cycles}"
    node_id: NodeId
    cycle: Annotated[int, "cycle, counted from 1"]
    max_cycles: Annotated[int, "cycles allowed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ManagerLoopSteered(Event):
    """A supervisor has written a message for the agents of its child pipeline."""

    event: ClassVar[str] = "manager_loop_steered"
    says: ClassVar[str] = "{node_id}: steers its child pipeline ({path})"
    node_id: NodeId
    cycle: Annotated[int, "cycle, counted from 1"]
    path: Annotated[str, "file with what it says"]


@dataclass(frozen=True, slots=True, kw_only=True)
class HumanGateOpened(Event):
    """A human gate asks a person."""

    event: ClassVar[str] = "human_gate_opened"
    says: ClassVar[str] = "{node_id}: waiting for a person: {question} [{choices:list}]{answer_url:page}"
    node_id: NodeId
    visit: VisitNumber
    question: Annotated[str, "the question"]
    choices: Annotated[Sequence[str], "labels of the answers offered"]
    timeout_s: Annotated[float | None, "seconds until the gate gives up; left out when it waits for ever"] = None
    answer_url: Annotated[str | None, "page to answer on"] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class HumanGateAnswered(Event):
    """A human gate has its answer."""

    event: ClassVar[str] = "human_gate_answered"
    says: ClassVar[str] = "{node_id}: answered {choice} by {by}"
    node_id: NodeId
    visit: VisitNumber
    choice: Annotated[str, "label of the choice made"]
    by: Annotated[str, "who or what answered"]
    waited_s: Annotated[float, "seconds from question to answer"]


@dataclass(frozen=True, slots=True, kw_only=True)
class HumanGateTimeout(Event):
    """Nobody answered in time."""

    event: ClassVar[str] = "human_gate_timeout"
    says: ClassVar[str] = ""
    node_id: NodeId
    visit: VisitNumber
    waited_s: Annotated[float, "seconds waited"]
    default_choice: Annotated[str | None, "label of the choice taken instead; left out when there is none"] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class InputMaterializationStarted(Event):
    """Input files are about to be copied. Without such files there is no event."""

    event: ClassVar[str] = "input_materialization_started"
    says: ClassVar[str] = ""
    scope: InputScope
    source_roots: Annotated[tuple[str, ...], "folders that files come from"]
    target_root: Annotated[str, "folder they go to"]
    node_id: StageNode = None


@dataclass(frozen=True, slots=True, kw_only=True)
class InputMaterializationProgress(Event):
    """The input files are known."""

    event: ClassVar[str] = "input_materialization_progress"
    says: ClassVar[str] = ""
    scope: InputScope
    resolved_file_count: Annotated[int, "files found"]
    discovered_refs: Annotated[int, "references found in them"]
    node_id: StageNode = None


@dataclass(frozen=True, slots=True, kw_only=True)
class InputMaterializationCompleted(Event):
    """The input files are in place."""

    event: ClassVar[str] = "input_materialization_completed"
    says: ClassVar[str] = ""
    scope: InputScope
    resolved_file_count: Annotated[int, "files copied"]
    unresolved_inferred_ref: Annotated[int, "inferred references that lead nowhere"]
    node_id: StageNode = None


@dataclass(frozen=True, slots=True, kw_only=True)
class InputMaterializationWarning(Event):
    """An input file could not be used; the run goes on."""

    event: ClassVar[str] = "input_materialization_warning"
    says: ClassVar[str] = ""
    scope: InputScope
    warning: Annotated[str, "what is wrong"]
    node_id: StageNode = None


@dataclass(frozen=True, slots=True, kw_only=True)
class InputMaterializationError(Event):
    """The input files could not be put in place."""

    event: ClassVar[str] = "input_materialization_error"
    says: ClassVar[str] = ""
    scope: InputScope
    failure_reason: Annotated[str, "`input_include_missing` or `input_materialization_error`"]
    message: Annotated[str, "what is wrong"]
    unmatched_include_patterns: Annotated[tuple[str, ...] | None, "required patterns without a file"] = None
    node_id: StageNode = None
