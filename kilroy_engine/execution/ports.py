"""The protocol of an orchestrator: what the engine asks of one. ``orchestration`` implements the protocol with Prefect, the
tests do so in one process.

The engine decides what happens. An orchestrator carries out each visit, branch and child pipeline as a task run or flow run
that people can see, and knows secrets, callees and cancels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeAlias
from uuid import UUID

from kilroy_engine.agents.variables import AgentVariables
from kilroy_engine.events import Event
from kilroy_engine.execution.preparing.preparation import PreparedRun
from kilroy_engine.execution.stall import ProgressClock
from kilroy_engine.graph.model import Node
from kilroy_engine.handlers.base import CallPrefect
from kilroy_engine.rundir.files.layout import RunDirectory
from kilroy_engine.rundir.files.records import Conclusion
from kilroy_engine.rundir.stages.branches import BranchRecord
from kilroy_engine.settings.options import Options
from kilroy_engine.stopping import Cancellation
from kilroy_engine.traversal.outcome import Outcome
from kilroy_engine.traversal.retry import Again, Settled

Slots: TypeAlias = Callable[[], AbstractContextManager[object]]
"""Makes a context manager that holds the concurrency slots of a handler's work. Entering it waits for free slots."""


@dataclass(frozen=True, slots=True)
class Identity:
    """The orchestrator's facts about a run. ``page_url`` is the run's page in the UI; empty if there is none."""

    flow_run_id: UUID
    flow_run_name: str
    deployment_id: UUID | None = None
    page_url: str = ""

    @property
    def supervised(self) -> bool:
        """Whether a worker or runner started the run's process. A supervisor passes cancels on to the process and notices its
        death."""
        return self.deployment_id is not None


@dataclass(frozen=True, slots=True)
class CallPlace:
    """The stage that a call belongs to, and the cancellation that stops the call. ``alive`` is called when the callee makes
    progress."""

    node_id: str
    stage_dir: Path
    cancellation: Cancellation
    alive: Callable[[], None] = lambda: None


class VisitAtWork(Protocol):
    """One visit of a node, carried out attempt after attempt. ``name`` is the visit's name for people."""

    @property
    def node(self) -> Node: ...

    @property
    def name(self) -> str: ...

    @property
    def provider(self) -> str:
        """The provider whose models the next attempt uses; empty for none."""
        ...

    @property
    def max_attempts(self) -> int: ...

    @property
    def cancellation(self) -> Cancellation: ...

    @property
    def clock(self) -> ProgressClock: ...

    def tell(self, event: Event, /) -> None: ...

    def attempt(self, number: int, log: Callable[[str], None], slots: Slots = nullcontext) -> Again | Settled:
        """Carries out attempt ``number`` (from 1). A later attempt waits for its retry delay first. ``log`` takes lines of
        output. ``slots`` are held while the handler works.

        Raises:
            RunCanceled: A stop was requested.
        """
        ...


class BranchAtWork(Protocol):
    """One branch of the fan-out at node ``node_id``. Can be pickled."""

    @property
    def node_id(self) -> str: ...

    @property
    def key(self) -> str: ...

    def run(self) -> BranchRecord:
        """Runs the branch from its checkpoint to its end. Writes the result to disk and returns it.

        Raises:
            RunCanceled: The whole run is to stop.
        """
        ...


class ChildAtWork(Protocol):
    """A child pipeline of node ``node_id``. ``file`` is the pipeline's file."""

    @property
    def node_id(self) -> str: ...

    @property
    def file(self) -> Path: ...

    @property
    def directory(self) -> RunDirectory: ...

    @property
    def inputs(self) -> Mapping[str, str]: ...

    @property
    def options(self) -> Options: ...

    def conduct(self, identity: Identity) -> Conclusion:
        """Opens the child's run under ``identity`` and carries it out.

        Raises:
            KilroyError: The child was refused and has not begun, or the child broke off and its conclusion is on disk.
        """
        ...


@dataclass(frozen=True, slots=True)
class Performed:
    """A visit that was carried out. ``link`` is the orchestrator's handle of the visit, given to the next visit as its
    predecessor."""

    outcome: Outcome | None
    told: str
    link: object


@dataclass(frozen=True, slots=True)
class BranchEnd:
    """How a branch ended. Without a ``result``, ``told`` says why, and ``canceled`` says whether the branch was stopped."""

    result: BranchRecord | None = None
    told: str = ""
    canceled: bool = False


class BranchRunner(Protocol):
    """Carries out branches side by side."""

    def submit(self, branch: BranchAtWork, answered: Callable[[], None]) -> Callable[[], BranchEnd]:
        """Starts the branch and returns a function that waits for the branch's end. ``answered`` is called when the branch is
        over, in any thread."""
        ...


class Orchestrator(Protocol):
    """The only way from the engine to an orchestrator. Can be pickled together with a branch."""

    def perform(self, visit: VisitAtWork, after: Iterable[object]) -> Performed:
        """Carries out a visit. ``after`` are the links of the visits before it.

        ``outcome`` is None if the orchestrator ended the visit without one; ``told`` says why.
        """
        ...

    def branches(self, size: int) -> AbstractContextManager[BranchRunner]:
        """A runner for at most ``size`` branches at a time."""
        ...

    def elsewhere(self) -> AbstractContextManager[object]:
        """A context manager for a process other than the flow's, active while a branch works there."""
        ...

    def child(self, child: ChildAtWork) -> str:
        """Carries out a child pipeline as a run of its own, in the calling thread. Returns why it ended; used if the child
        never began."""
        ...

    def call(self, call: CallPrefect, place: CallPlace) -> Outcome:
        """Makes a call and waits for the result. A stop or the node's time limit ends the wait."""
        ...

    def check(self, prepared: PreparedRun) -> None:
        """Checks the tasks, flows and deployments that the pipeline calls. Called before the run starts.

        Raises:
            InvalidPipeline: Some cannot be called; there is a diagnostic for each such node.
        """
        ...

    def opened(self, identity: Identity, run_id: str, directory: RunDirectory) -> None:
        """Records the directory of the run of ``identity``. Called once when the run is open, before its first stage."""
        ...

    def explain(self, error: BaseException) -> str:
        """What an exception of the orchestrator means, for the reason of a run that it broke off. Empty for any other
        exception."""
        ...

    def secret(self, name: str) -> str:
        """The value of the secret ``name``.

        Raises:
            KeyError: There is no such secret.
        """
        ...

    def agent_variables(self, block: str) -> AgentVariables:
        """What the agents of a run get of the block named ``block``.

        Raises:
            KeyError: There is none of that name.
        """
        ...

    def is_canceled(self, identity: Identity) -> bool:
        """Whether somebody has canceled the run in the orchestrator. False if the orchestrator does not answer."""
        ...
