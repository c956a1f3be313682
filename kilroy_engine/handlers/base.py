"""The seam between the walk and the work: what a handler is asked, what it may answer."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, TypeAlias

from kilroy_engine.errors import RunCanceled
from kilroy_engine.graph.model import Graph, Node
from kilroy_engine.graph.references import Reference
from kilroy_engine.traversal.branch import BranchPlan
from kilroy_engine.traversal.fanin import BranchResult, FanOutPolicy
from kilroy_engine.traversal.fidelity import Carried
from kilroy_engine.traversal.outcome import Json, Outcome
from kilroy_engine.traversal.supervision import ChildFacts, Supervision
from kilroy_engine.workspace.branching import BranchWorkspace


class Cancellation:
    """A request to stop that every wait of the engine watches. Set once; the first one wins."""

    def __init__(self) -> None:
        self._event = threading.Event()
        self._lock = threading.Lock()
        self._source = ""
        self._failure = ""
        self._followers: list[Cancellation] = []

    def __reduce__(self) -> tuple[type[Cancellation], tuple[()]]:
        # Another process cannot see this one's event: whoever takes work there looks for a request on disk.
        return Cancellation, ()

    def linked(self) -> Cancellation:
        """A cancellation for a part of the work: requested together with this one, or alone."""
        follower = Cancellation()
        with self._lock:
            self._followers.append(follower)
        if self.requested:
            follower._stop(self._source, failure=self._failure)
        return follower

    def request(self, source: str) -> bool:
        """Asks the run to stop as canceled. ``source`` completes ``canceled: …``. False when it was asked before."""
        return self._stop(source, failure="")

    def give_up(self, failure: str) -> bool:
        """Asks the run to stop as failed, with ``failure`` as its reason. False when it was asked before."""
        return self._stop("", failure=failure)

    def _stop(self, source: str, *, failure: str) -> bool:
        with self._lock:
            if self._event.is_set():
                return False
            self._source, self._failure = source, failure
            self._event.set()
        for follower in self._followers:
            follower._stop(source, failure=failure)
        return True

    @property
    def requested(self) -> bool:
        return self._event.is_set()

    @property
    def source(self) -> str:
        """Who asked for a cancel; empty while nobody did."""
        return self._source

    @property
    def failed(self) -> bool:
        """Whether the run stops as failed rather than canceled."""
        return bool(self._failure)

    @property
    def reason(self) -> str:
        """Why the run stops, as it stands in ``failure_reason``; empty while nobody asked."""
        return self._failure or (f"canceled: {self._source}" if self._source else "")

    def raise_if_requested(self) -> None:
        """Raises:
        RunCanceled: A stop was requested.
        """
        if self.requested:
            raise RunCanceled(self.reason, source=self._source)

    def wait(self, timeout_s: float) -> bool:
        """Sleeps up to ``timeout_s`` seconds; True as soon as a stop is requested."""
        return self._event.wait(timeout_s)


OutputSink: TypeAlias = Callable[[str, str], None]
"""Called with (stream, line): stream is ``stdout`` or ``stderr``, the line has no newline and is not empty."""


def discard_output(stream: str, line: str) -> None:
    """A sink for output that nobody follows."""


@dataclass(frozen=True)
class StageRequest:
    """One attempt at one stage.

    ``context`` is a snapshot of the run's context. ``stage_dir`` is ``<run directory>/<node id>`` and exists; ``work_dir`` is
    the folder that the stage works in. ``environment`` is the complete environment for child processes, Kilroy's ``KILROY_*``
    included. ``timeout_s`` limits this attempt, None for the handler's default. ``simulate`` asks for no side effects.
    ``carried`` says how much of the run an agent is told, ``outcomes`` is the last outcome of every node that has completed.
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
    simulate: bool = False
    carried: Carried = field(default_factory=Carried)
    outcomes: Mapping[str, Outcome] = field(default_factory=dict[str, Outcome])
    cancellation: Cancellation = field(default_factory=Cancellation)
    output: OutputSink = discard_output
    guidance: str = ""


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

    results: tuple[BranchResult, ...]
    winner: BranchResult
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
    target: Reference
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
