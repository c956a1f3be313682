"""Where a run stands: the immutable state that the walk folds outcomes into."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from kilroy_engine.traversal.outcome import FinalStatus, Json, Outcome


@dataclass(frozen=True, slots=True)
class ConditionEvaluated:
    """One edge condition was looked at. Becomes the event ``edge_condition_evaluated``."""

    node_id: str
    edge_to: str
    condition: str
    matched: bool


@dataclass(frozen=True, slots=True)
class EdgeSelected:
    """The walk leaves ``from_node`` for ``to_node``. Becomes the event ``edge_selected``, in Kilroy's words."""

    from_node: str
    to_node: str
    label: str
    condition: str
    hop_source: str
    selection_method: str
    candidates_evaluated: int
    conditions_matched: int


@dataclass(frozen=True, slots=True)
class RetryTargetTaken:
    """A failed stage without a matching edge jumps to its retry target. Becomes ``no_matching_fail_edge_fallback``."""

    node_id: str
    retry_target: str
    failure_reason: str


@dataclass(frozen=True, slots=True)
class GoalGateRetried:
    """An exit was reached while ``gate`` is unsatisfied, so the walk jumps to ``target``. Becomes ``goal_gate_retry``."""

    gate: str
    target: str


@dataclass(frozen=True, slots=True)
class StuckCycle:
    """A node was reached more often than its limit. Becomes ``stuck_cycle_breaker``."""

    node_id: str
    visit_count: int
    visit_limit: int


@dataclass(frozen=True, slots=True)
class FailureCycle:
    """The same failure came too often. Becomes ``deterministic_failure_cycle_breaker``."""

    node_id: str
    signature: str
    signature_count: int
    signature_limit: int


@dataclass(frozen=True, slots=True)
class LoopRepeated:
    """A loop goes round once more. Becomes ``loop_iteration``; ``iteration`` is the one that is over, counted from 1."""

    loop_id: str
    iteration: int
    begin_node: str
    end_node: str


@dataclass(frozen=True, slots=True)
class LoopEnded:
    """A loop is over as it should be. Becomes ``loop_terminated``."""

    loop_id: str
    iterations: int
    end_node: str


@dataclass(frozen=True, slots=True)
class RestartSigned:
    """A failure leads over a ``loop_restart`` edge and is counted. Becomes ``loop_restart_signature``."""

    target_node: str
    node_id: str
    signature: str
    signature_count: int
    signature_limit: int
    failure_reason: str
    failure_class: str
    restart_count: int


@dataclass(frozen=True, slots=True)
class RestartBlocked:
    """A failure of another class than ``transient_infra`` restarts nothing. Becomes ``loop_restart_blocked``."""

    target_node: str
    node_id: str
    failure_class: str
    failure_reason: str


@dataclass(frozen=True, slots=True)
class RestartCycle:
    """The same failure led to a restart too often. Becomes ``loop_restart_circuit_breaker``."""

    target_node: str
    node_id: str
    signature: str
    signature_count: int
    signature_limit: int


Decision: TypeAlias = (
    ConditionEvaluated
    | EdgeSelected
    | RetryTargetTaken
    | GoalGateRetried
    | StuckCycle
    | FailureCycle
    | LoopRepeated
    | LoopEnded
    | RestartSigned
    | RestartBlocked
    | RestartCycle
)


@dataclass(frozen=True, slots=True)
class Visit:
    """One arrival at a node. ``number`` counts from 1 per node. ``decisions`` tell how the walk came here, oldest first.

    ``edge`` is the index (``Edge.index``) of the edge taken, None for the start and for jumps to retry targets.
    """

    node_id: str
    number: int
    edge: int | None = None
    decisions: tuple[Decision, ...] = ()


@dataclass(frozen=True, slots=True)
class Finish:
    """The walk is over. ``reason`` is empty on success, else one line that a person can act on."""

    status: FinalStatus
    reason: str = ""
    node_id: str = ""
    decisions: tuple[Decision, ...] = ()


@dataclass(frozen=True)
class RunState:
    """Everything that decides what happens next; what ``checkpoint.json`` saves.

    ``completed`` holds node ids in the order of completion, with repetitions. ``outcomes`` is the last outcome per node,
    ``visits`` the arrivals per node, ``retries`` the retry counter per node (0 after a success), ``failure_signatures`` how
    often each failure signature was seen since the node's last success. ``routing_outcome`` is what edge conditions call
    ``outcome``: the last stage's, which a conditional node carries on instead of its own. ``jump_to`` is where the walk goes
    next when something other than routing decides it (a branch's first node, a node to run again, the target of a restart),
    ``jump_edge`` the index of the edge that led there, if any; entering a node clears both. ``restart_count`` is how often the
    run has begun again over a ``loop_restart`` edge, ``restart_signatures`` which failures led to that. ``visits_in_rounds``
    are the arrivals in finished iterations of loops that a number ends: where nobody has set a limit, those do not count as
    going round in a circle.

    ``last_fidelity`` and ``last_thread_key`` are what the last stage was given if it was an agent's, else empty (Kilroy).
    ``sessions`` holds the agent session of each thread. ``degrade_fidelity``: the next agent's stage gets ``summary:high``
    instead of ``full`` (Spec 5.3).
    """

    run_id: str
    context: Mapping[str, Json] = field(default_factory=dict[str, Json])
    completed: tuple[str, ...] = ()
    outcomes: Mapping[str, Outcome] = field(default_factory=dict[str, Outcome])
    visits: Mapping[str, int] = field(default_factory=dict[str, int])
    retries: Mapping[str, int] = field(default_factory=dict[str, int])
    failure_signatures: Mapping[str, int] = field(default_factory=dict[str, int])
    routing_outcome: Outcome | None = None
    jump_to: str = ""
    jump_edge: int | None = None
    last_fidelity: str = ""
    last_thread_key: str = ""
    sessions: Mapping[str, str] = field(default_factory=dict[str, str])
    degrade_fidelity: bool = False
    logs: tuple[str, ...] = ()
    restart_count: int = 0
    restart_signatures: Mapping[str, int] = field(default_factory=dict[str, int])
    visits_in_rounds: Mapping[str, int] = field(default_factory=dict[str, int])

    @property
    def last_node(self) -> str:
        """Id of the last completed node, empty before the first."""
        return self.completed[-1] if self.completed else ""


@dataclass(frozen=True, slots=True)
class Restart:
    """A ``loop_restart`` edge was taken: the run begins again at ``target``.

    ``carried`` is the state in which it does, but for what every context of the run begins with.
    """

    target: str
    carried: RunState
    decisions: tuple[Decision, ...] = ()


Step: TypeAlias = Visit | Finish | Restart
