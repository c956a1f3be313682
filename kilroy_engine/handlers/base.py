"""The seam between the walk and the work: what a handler is asked, what it may answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeAlias

from kilroy_engine import stopping
from kilroy_engine.earlier import names_that_left
from kilroy_engine.events.base import EventSink, discard_event
from kilroy_engine.graph.callees import Callee
from kilroy_engine.graph.model import Graph, Node
from kilroy_engine.processes.output import OutputSink, discard_output
from kilroy_engine.rundir.stages.branches import BranchRecord
from kilroy_engine.settings.table import RunSettings
from kilroy_engine.traversal.branch_plan import BranchPlan
from kilroy_engine.traversal.fanin import FanOutPolicy
from kilroy_engine.traversal.fidelity import Carried
from kilroy_engine.traversal.outcome import Json, Outcome
from kilroy_engine.traversal.supervision import ChildFacts, Supervision
from kilroy_engine.workspace.branching import BranchWorkspace


@dataclass(frozen=True)
class StageRequest:
    """One attempt at one stage.

    ``context`` is a snapshot of the run's context. ``stage_dir`` is ``<run directory>/<node id>`` and exists; ``work_dir`` is
    the folder that the stage works in. ``environment`` is the complete environment for child processes, Kilroy's ``KILROY_*``
    included. ``timeout_s`` limits this attempt, None for the handler's default. ``settings`` are the run's, all of them.
    ``carried`` says how much of the run an agent is told, ``outcomes`` is the last outcome of every node that has completed.
    ``output`` takes lines of output, ``tell`` takes events about this stage, both while it works: what is told is on disk at
    once, whatever becomes of the stage.
    ``cost_left_usd`` is what the node's agents may still cost in this attempt, None for no limit.
    ``guidance`` is what a manager has to say to this pipeline's agents, empty where it says nothing.
    """

    graph: Graph
    node: Node
    visit: int
    attempt: int
    run_id: str
    context: Mapping[str, Json]
    stage_dir: Path
    work_dir: Path
    environment: Mapping[str, str] = field(default_factory=dict[str, str])
    timeout_s: float | None = None
    settings: RunSettings = field(default_factory=RunSettings)
    carried: Carried = field(default_factory=Carried)
    outcomes: Mapping[str, Outcome] = field(default_factory=dict[str, Outcome])
    cancellation: stopping.Cancellation = field(default_factory=stopping.Cancellation)
    output: OutputSink = discard_output
    tell: EventSink = discard_event
    cost_left_usd: float | None = None
    guidance: str = ""

    @property
    def simulate(self) -> bool:
        """Whether the run asks for no side effects."""
        return self.settings.simulate


@dataclass(frozen=True, slots=True)
class Choice:
    """One answer that a human gate offers: an outgoing edge. ``key`` is its accelerator."""

    key: str
    label: str
    target: str


@dataclass(frozen=True, slots=True)
class Ask:
    """A question for a person, to be asked by the engine. The gate's outcome follows from the choice made."""

    question: str
    choices: tuple[Choice, ...]
    default_choice: str = ""
    timeout_s: float | None = None


@dataclass(frozen=True, slots=True)
class FanOut:
    """Branches to run side by side. ``copy_max_bytes`` limits what each branch of a run without a repository copies."""

    plan: BranchPlan
    policy: FanOutPolicy
    workspace: BranchWorkspace
    copy_max_bytes: int


@dataclass(frozen=True, slots=True)
class FanIn:
    """Branches to bring together: the work of ``winner``, or of all that succeeded. ``notes`` say how it was chosen."""

    results: tuple[BranchRecord, ...]
    winner: BranchRecord
    merge_all: bool
    copy_max_bytes: int
    notes: str


@dataclass(frozen=True, slots=True)
class Supervise:
    """A child pipeline to run, and to watch until it ends.

    ``child_file`` names it; it is empty where somebody else starts it. ``plan`` says how to watch it in cycles, None for only
    waiting. ``guide`` makes of what is seen what is said to its agents; None says nothing.
    """

    child_file: str
    plan: Supervision | None = None
    guide: Callable[[ChildFacts], str] | None = None
    timeout_s: float | None = None


@dataclass(frozen=True, slots=True)
class CallPrefect:
    """A call of a Prefect task or flow (``node_type`` says which), or a run of a flow's deployment.

    ``parameters`` by name, as written or from the context; they are read by the callee's type hints. ``timeout_s`` limits
    the call, None for no limit.
    """

    node_type: str
    target: Callee
    parameters: Mapping[str, Json]
    timeout_s: float | None = None


Effect: TypeAlias = Ask | FanOut | FanIn | CallPrefect | Supervise
"""What the engine carries out on a handler's behalf."""

StageResult: TypeAlias = Outcome | Effect
"""What a handler may answer: the outcome itself, or an effect for the engine to carry out. Closed on purpose."""


class Handler(Protocol):
    """Carries out one stage. It has no way back to the engine: it gets a request and returns a value.

    Expected failures are returned as outcomes. An exception is turned into a failed outcome by the engine
    (Spec 4.12); raise :class:`~kilroy_engine.errors.TransientStageError` when another attempt may help.
    """

    def __call__(self, request: StageRequest, /) -> StageResult: ...


if not TYPE_CHECKING:
    __getattr__ = names_that_left(__name__)
