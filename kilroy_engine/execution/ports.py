"""What carrying out a run asks of an orchestrator. Prefect implements it, in ``orchestration``; tests do so in one process.

The engine decides what happens; an orchestrator gives each visit, branch and child pipeline a run of its own to be seen by,
and answers for what only it knows: secrets, callees, cancels.
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
"""What a handler's work has to have while it lasts. Entering it waits until it is to be had."""


@dataclass(frozen=True, slots=True)
class Identity:
    """What an orchestrator knows a run by. ``page_url`` is its page there, empty where there is none."""

    flow_run_id: UUID
    flow_run_name: str
    deployment_id: UUID | None = None
    page_url: str = ""

    @property
    def supervised(self) -> bool:
        """Whether a worker or runner started the run's process, hands it cancels and sees it die."""
        return self.deployment_id is not None


@dataclass(frozen=True, slots=True)
class CallPlace:
    """Where a call happens: whose stage it is, and what may stop it. ``alive`` is told that the callee makes progress."""

    node_id: str
    stage_dir: Path
    cancellation: Cancellation
    alive: Callable[[], None] = lambda: None


class VisitAtWork(Protocol):
    """One visit of a node, carried out attempt after attempt. ``name`` is what people see."""

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
        """Carries out attempt ``number`` (from 1); later ones wait their delay first. ``log`` takes lines of output.

        Raises:
            RunCanceled: A stop was requested.
        """
        ...


class BranchAtWork(Protocol):
    """One branch of the fan-out at node ``node_id``. It may be pickled."""

    @property
    def node_id(self) -> str: ...

    @property
    def key(self) -> str: ...

    def run(self) -> BranchRecord:
        """The branch from where it stands to its end. What it came to is on disk too then.

        Raises:
            RunCanceled: The whole run is to stop.
        """
        ...


class ChildAtWork(Protocol):
    """A child pipeline of the node ``node_id``, in the pipeline's file ``file``."""

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
        """Opens the child's run as that of ``identity`` and carries it out.

        Raises:
            KilroyError: It was refused and has not begun, or it broke off, which is on disk then.
        """
        ...


@dataclass(frozen=True, slots=True)
class Performed:
    """A visit that was carried out. ``link`` is what the next visit of the path names as the one before it."""

    outcome: Outcome | None
    told: str
    link: object


@dataclass(frozen=True, slots=True)
class BranchEnd:
    """How a branch's own run ended: with its result, or without one; then ``told`` says why, and ``canceled`` whether it was
    stopped."""

    result: BranchRecord | None = None
    told: str = ""
    canceled: bool = False


class BranchRunner(Protocol):
    """Carries out branches side by side."""

    def submit(self, branch: BranchAtWork, answered: Callable[[], None]) -> Callable[[], BranchEnd]:
        """Starts the branch. ``answered`` is called once it is over, in any thread; what is returned waits for its end."""
        ...


class Orchestrator(Protocol):
    """The one way from the engine to an orchestrator. It may be pickled, together with a branch."""

    def perform(self, visit: VisitAtWork, after: Iterable[object]) -> Performed:
        """Carries out a visit, after the visits whose links are ``after``.

        ``outcome`` is None where the orchestrator ended it otherwise; ``told`` says how.
        """
        ...

    def branches(self, size: int) -> AbstractContextManager[BranchRunner]:
        """A runner for up to ``size`` branches at a time."""
        ...

    def elsewhere(self) -> AbstractContextManager[object]:
        """What the orchestrator looks after in another process than the run's, while a branch is at work there."""
        ...

    def child(self, child: ChildAtWork) -> str:
        """Carries out a child pipeline as a run of its own, in this thread. Returns why it ended, where it never began."""
        ...

    def call(self, call: CallPrefect, place: CallPlace) -> Outcome:
        """Makes a call and waits for it. A stop and the node's time limit end the wait."""
        ...

    def check(self, prepared: PreparedRun) -> None:
        """Looks at what the pipeline calls, before the run starts.

        Raises:
            InvalidPipeline: Something cannot be called, with a diagnostic for each node.
        """
        ...

    def opened(self, identity: Identity, run_id: str, directory: RunDirectory) -> None:
        """Notes where the run of ``identity`` has its directory. Called once it is open, before anything happens in it."""
        ...

    def explain(self, error: BaseException) -> str:
        """What an exception of the orchestrator's own means for a run that it broke off; empty for any other."""
        ...

    def secret(self, name: str) -> str:
        """The value of the secret that is kept under ``name``.

        Raises:
            KeyError: There is none of that name.
        """
        ...

    def agent_variables(self, block: str) -> AgentVariables:
        """What the agents of a run get of the block named ``block``.

        Raises:
            KeyError: There is none of that name.
        """
        ...

    def is_canceled(self, identity: Identity) -> bool:
        """Whether somebody has canceled the run there. False where nobody answers."""
        ...
