"""Where a run stands: the immutable state that the walk folds outcomes into."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TypeAlias

from kilroy_engine.events.base import Event
from kilroy_engine.traversal.outcome import FinalStatus, Json, Outcome


@dataclass(frozen=True, slots=True)
class Visit:
    """One arrival at a node. ``number`` counts from 1 per node. ``decisions`` are the events that tell how the
    walk came here, oldest first.

    ``edge`` is the index (``Edge.index``) of the edge taken, None for the start and for jumps to retry targets.
    """

    node_id: str
    number: int
    edge: int | None = None
    decisions: tuple[Event, ...] = ()


class Turn(StrEnum):
    """What follows an iteration of a loop."""

    AGAIN = "again"
    OVER = "over"
    EXCEEDED = "exceeded"


@dataclass(frozen=True, slots=True)
class LoopRound:
    """An iteration that is over: its number, counted from 1, and what follows it."""

    iteration: int
    turn: Turn


@dataclass(frozen=True, slots=True)
class Finish:
    """The walk is over. ``reason`` is empty on success, else one line that a person can act on."""

    status: FinalStatus
    reason: str = ""
    node_id: str = ""
    decisions: tuple[Event, ...] = ()


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
    ``loop_round`` is the iteration that the last stage has ended, None where no loop ends there.
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
    loop_round: LoopRound | None = None

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
    decisions: tuple[Event, ...] = ()


Step: TypeAlias = Visit | Finish | Restart
