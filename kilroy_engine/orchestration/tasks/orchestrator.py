"""The engine's orchestrator in Prefect: visits and branches become task runs, a child pipeline becomes a subflow."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field

import httpx
from prefect import tags
from prefect.blocks.system import Secret
from prefect.client.orchestration import get_client
from prefect.exceptions import ObjectNotFound

from kilroy_engine.agents.variables import AgentVariables
from kilroy_engine.execution.ports import BranchRunner, CallPlace, ChildAtWork, Identity, Performed, VisitAtWork
from kilroy_engine.execution.preparing.preparation import PreparedRun
from kilroy_engine.execution.run import one_line
from kilroy_engine.handlers.base import CallPrefect
from kilroy_engine.orchestration.agent_block import KilroyAgent
from kilroy_engine.orchestration.locate import write_labels
from kilroy_engine.orchestration.tasks.branch_pool import BranchPool, ThreadBranchPool
from kilroy_engine.orchestration.tasks.branch_task import task_run_branches
from kilroy_engine.orchestration.tasks.call_checks import require_callable
from kilroy_engine.orchestration.tasks.call_in_prefect import make_call
from kilroy_engine.orchestration.tasks.child_flow import run_child
from kilroy_engine.orchestration.tasks.node_task import Around, perform
from kilroy_engine.orchestration.tasks.tag_limits import TagLimits
from kilroy_engine.orchestration.tasks.tags import tags_set_aside
from kilroy_engine.rundir.files.layout import RunDirectory
from kilroy_engine.traversal.outcome import Outcome


@dataclass
class PrefectOrchestrator:
    """Implements :class:`kilroy_engine.execution.ports.Orchestrator` for one run. ``tags`` are those of the flow's caller."""

    pool: BranchPool = field(default_factory=ThreadBranchPool)
    limits: TagLimits = field(default_factory=TagLimits)
    tags: frozenset[str] = frozenset()

    @contextmanager
    def at_work(self) -> Generator[None]:
        """Around the walk: watches limits on tags and sets the caller's tags aside. Closes the pool of branches at the end."""
        try:
            with self.limits.watched(), tags_set_aside() as self.tags:
                yield
        finally:
            self.pool.close()

    def perform(self, visit: VisitAtWork, after: Iterable[object]) -> Performed:
        """Runs the visit as a task run."""
        return perform(visit, after, Around(self.tags, self.limits))

    def branches(self, size: int) -> AbstractContextManager[BranchRunner]:
        """Gives a runner of up to ``size`` branches at a time, as task runs in the run's pool."""
        return task_run_branches(self.pool, size)

    def elsewhere(self) -> AbstractContextManager[object]:
        """Around a branch in a worker process of the pool: watches the limits on tags there, too."""
        return self.limits.watched()

    def child(self, child: ChildAtWork) -> str:
        """Runs the child pipeline as a subflow, with the caller's tags."""
        return run_child(child, self.tags)

    def call(self, call: CallPrefect, place: CallPlace) -> Outcome:
        """Runs the callee as a task run, a subflow or a deployment's flow run, with the tags of the flow's caller."""
        with tags(*self.tags):
            return make_call(call, place)

    def check(self, prepared: PreparedRun) -> None:
        """Checks the pipeline's calls before the run is opened; see :func:`require_callable`."""
        require_callable(prepared)

    def opened(self, identity: Identity, run_id: str, directory: RunDirectory) -> None:
        """Writes the labels of the flow run. Called when the run directory has been opened."""
        write_labels(identity.flow_run_id, run_id, directory)

    def explain(self, error: BaseException) -> str:
        """A message where an API that stopped answering is among the causes of ``error``. Else an empty text."""
        cause: BaseException | None = error
        while cause is not None:
            if isinstance(cause, httpx.TransportError):
                return f"the Prefect API stopped answering ({one_line(error)})"
            cause = cause.__cause__ or cause.__context__
        return ""

    def secret(self, name: str) -> str:
        """The value of the Prefect Secret block ``name``.

        Raises:
            KeyError: There is no such block.
        """
        try:
            block = Secret.load(name)
        except ValueError as error:
            raise KeyError(name) from error
        return str(block.get())  # type: ignore[union-attr]

    def agent_variables(self, block: str) -> AgentVariables:
        """What agents get of the block ``kilroy-agent/<block>``."""
        try:
            found = KilroyAgent.load(block)
        except ValueError as error:
            raise KeyError(block) from error
        assert isinstance(found, KilroyAgent)  # where no loop runs it is no coroutine
        return found.variables()

    def is_canceled(self, identity: Identity) -> bool:
        """Whether the server shows the flow run as canceled. False where the server is away: it has accepted no cancel then."""
        try:
            with get_client(sync_client=True) as client:
                state = client.read_flow_run(identity.flow_run_id).state
        except (httpx.HTTPError, ObjectNotFound):
            return False
        return state is not None and (state.is_cancelling() or state.is_cancelled())
