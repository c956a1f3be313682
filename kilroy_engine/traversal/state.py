"""The run's state: an immutable value that each visit and outcome replaces, and the steps of the walk."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TypeAlias

from kilroy_engine.events.base import Event
from kilroy_engine.traversal.outcome import FinalStatus, Json, Outcome


@dataclass(frozen=True, slots=True)
class Visit:
    """One arrival at a node. ``number`` counts from 1 for each node.

    ``decisions`` are the events that tell how the walk came here, oldest first. ``edge`` is the ``Edge.index`` of the edge
    taken, None for the start node and for jumps to retry targets.
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
    """A finished iteration of a loop: its number, counted from 1, and what follows."""

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
    """Everything that decides what happens next. ``checkpoint.json`` holds this state.

    - ``completed``: node ids in the order of completion, with repetitions.
    - ``outcomes``: the last outcome of each node.
    - ``visits``: the number of visits of each node.
    - ``retries``: the retry counter of each node, 0 after a success.
    - ``failure_signatures``: how often each failure was seen since its node's last success.
    - ``routing_outcome``: the value of ``outcome`` in edge conditions: the last stage's outcome, which a conditional node
      passes on.
    - ``jump_to``: the next node where routing does not decide: a branch's first node, a node to visit again, a restart's
      target.
    - ``jump_edge``: the index of the edge to ``jump_to``, if any. Entering a node clears both.
    - ``restart_count``: how often the run has begun again over a ``loop_restart`` edge.
    - ``restart_signatures``: how often each failure led to a restart.
    - ``visits_in_rounds``: each node's visits in finished iterations of loops with ``loop_count`` or ``loop_max``. The default
      visit limit ignores them.
    - ``last_fidelity``, ``last_thread_key``: mode and thread of the last stage; empty if it was no agent stage (Kilroy).
    - ``loop_round``: the iteration that the last stage has ended; None where no loop ends there.
    - ``sessions``: the agent session of each thread.
    - ``degrade_fidelity``: the next agent stage gets ``summary:high`` instead of ``full`` (Spec 5.3).
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
        """Id of the last completed node; empty before the first."""
        return self.completed[-1] if self.completed else ""


@dataclass(frozen=True, slots=True)
class Restart:
    """The walk took a ``loop_restart`` edge: the run begins again at ``target``.

    ``carried`` is the state of the new beginning, without the context that every beginning of the run has.
    """

    target: str
    carried: RunState
    decisions: tuple[Event, ...] = ()


Step: TypeAlias = Visit | Finish | Restart
