"""The interface of handlers: the request that a handler gets, and the results that a handler may return."""

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
    """The request for one attempt at one stage.

    ``context`` is a snapshot of the run's context. ``stage_dir`` is ``<run directory>/<node id>`` and exists. ``work_dir`` is
    the folder that the stage works in. ``environment`` is the complete environment for child processes, Kilroy's ``KILROY_*``
    variables included. ``timeout_s`` limits this attempt; None means the handler's default. ``settings`` are all settings of
    the run. ``carried`` says how much of the run an agent is told. ``outcomes`` holds the last outcome of every completed node.
    ``output`` takes lines of output and ``tell`` takes events about this stage, both during the attempt. An event is on disk
    when ``tell`` returns. ``cost_left_usd`` is what the agents of this attempt may cost; None means no limit. ``beside`` tells
    the stage from those that work in the same folder at the same time; empty where none do. ``guidance`` is the text of a
    manager for this pipeline's agents; empty for none.
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
    beside: str = ""
    guidance: str = ""

    @property
    def simulate(self) -> bool:
        """Whether the run must have no side effects."""
        return self.settings.simulate


@dataclass(frozen=True, slots=True)
class Choice:
    """One answer that a human gate offers, made from an outgoing edge. ``key`` is the edge's accelerator."""

    key: str
    label: str
    target: str


@dataclass(frozen=True, slots=True)
class Ask:
    """A question for a person. The engine asks the question, and the chosen answer gives the gate's outcome."""

    question: str
    choices: tuple[Choice, ...]
    default_choice: str = ""
    timeout_s: float | None = None


@dataclass(frozen=True, slots=True)
class FanOut:
    """Branches to run side by side. ``copy_max_bytes`` limits the size of each branch's copy in a run without a repository."""

    plan: BranchPlan
    policy: FanOutPolicy
    workspace: BranchWorkspace
    copy_max_bytes: int


@dataclass(frozen=True, slots=True)
class FanIn:
    """Branches to join: the work of ``winner``, or with ``merge_all`` the work of all that succeeded. ``notes`` say how the
    winner was chosen."""

    results: tuple[BranchRecord, ...]
    winner: BranchRecord
    merge_all: bool
    copy_max_bytes: int
    notes: str


@dataclass(frozen=True, slots=True)
class Supervise:
    """A child pipeline to run and to watch until it ends.

    ``child_file`` names the pipeline's file; it is empty if somebody else starts the child. ``plan`` says how to watch the
    child in cycles; None means only to wait for its end. ``guide`` makes the guidance for the child's agents from facts about
    the child; None means no guidance.
    """

    child_file: str
    plan: Supervision | None = None
    guide: Callable[[ChildFacts], str] | None = None
    timeout_s: float | None = None


@dataclass(frozen=True, slots=True)
class CallPrefect:
    """A call of a Prefect task or flow, or a run of a flow's deployment. ``node_type`` says which.

    ``parameters`` maps names to values from the node or the context. They are converted by the callee's type hints.
    ``timeout_s`` limits the call; None means no limit.
    """

    node_type: str
    target: Callee
    parameters: Mapping[str, Json]
    timeout_s: float | None = None


Effect: TypeAlias = Ask | FanOut | FanIn | CallPrefect | Supervise
"""Work that a handler asks the engine to carry out."""

StageResult: TypeAlias = Outcome | Effect
"""The result of a handler: the outcome itself, or an effect for the engine to carry out. Plug-ins cannot add to these types."""


class Handler(Protocol):
    """Carries out one stage. A handler cannot call the engine: it gets a request and returns a value.

    An expected failure is returned as an outcome. The engine turns an exception into a failed outcome (Spec 4.12). A handler
    raises :class:`~kilroy_engine.errors.TransientStageError` when another attempt may help.
    """

    def __call__(self, request: StageRequest, /) -> StageResult: ...


if not TYPE_CHECKING:
    __getattr__ = names_that_left(__name__)
