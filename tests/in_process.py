"""An orchestrator in one process: whole pipelines without a server. It implements the port that Prefect implements.

Visits follow each other in plain loops, branches run in threads, a child pipeline in the thread that asks for it. Calls of
Prefect tasks and flows are refused: nobody is there to carry them out.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Generator, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from uuid import uuid4

from kilroy_engine.agents.variables import AgentVariables
from kilroy_engine.errors import RunCanceled
from kilroy_engine.execution.conduct import conduct
from kilroy_engine.execution.effects import carry_out
from kilroy_engine.execution.opening import OpenedRun, open_run
from kilroy_engine.execution.ports import BranchAtWork, BranchEnd, CallPlace, ChildAtWork, Identity, Performed, VisitAtWork
from kilroy_engine.execution.preparing.preparation import PreparedRun, RunParameters, prepare_run
from kilroy_engine.handlers.base import CallPrefect
from kilroy_engine.rundir.ending.finalize import end_run
from kilroy_engine.rundir.files.layout import RunDirectory
from kilroy_engine.rundir.files.records import FinalOutcome
from kilroy_engine.rundir.stages.branches import BranchRecord
from kilroy_engine.traversal.outcome import Outcome, failure
from kilroy_engine.traversal.retry import Settled
from kilroy_engine.workspace.closing import closing_of


@dataclass
class InProcess:
    """``secrets`` are the values that inputs may name, ``blocks`` those that agents get. ``canceled`` cancels every
    run at work once it is set. ``performed`` are the names of the visits, in the order in which they were over, ``flow_runs``
    those of all runs."""

    secrets: Mapping[str, str] = field(default_factory=dict[str, str])
    blocks: Mapping[str, AgentVariables] = field(default_factory=dict[str, AgentVariables])
    canceled: threading.Event = field(default_factory=threading.Event)
    performed: list[str] = field(default_factory=list[str])
    flow_runs: list[Identity] = field(default_factory=list[Identity])

    def perform(self, visit: VisitAtWork, after: Iterable[object]) -> Performed:
        number = 1
        while not isinstance(verdict := visit.attempt(number, lambda line: None), Settled):
            number += 1
        self.performed.append(visit.name)
        return Performed(verdict.outcome, "", link=visit.name)

    @contextmanager
    def branches(self, size: int) -> Generator[_Threads]:
        with ThreadPoolExecutor(size) as threads:
            yield _Threads(threads)

    def elsewhere(self) -> nullcontext[None]:
        return nullcontext()

    def child(self, child: ChildAtWork) -> str:
        return child.conduct(self.identity()).reason

    def call(self, call: CallPrefect, place: CallPlace) -> Outcome:
        return failure(f"node {place.node_id}: no Prefect is there to call {call.target}")

    def check(self, prepared: PreparedRun) -> None:
        return

    def opened(self, identity: Identity, run_id: str, directory: RunDirectory) -> None:
        return

    def explain(self, error: BaseException) -> str:
        return ""

    def secret(self, name: str) -> str:
        return self.secrets[name]

    def agent_variables(self, block: str) -> AgentVariables:
        return self.blocks[block]

    def is_canceled(self, identity: Identity) -> bool:
        return self.canceled.is_set()

    def identity(self) -> Identity:
        """A new flow run."""
        flow_run_id = uuid4()
        self.flow_runs.append(Identity(flow_run_id, f"in-process-{flow_run_id.hex[:6]}"))
        return self.flow_runs[-1]


@dataclass(frozen=True)
class _Threads:
    threads: ThreadPoolExecutor

    def submit(self, branch: BranchAtWork, answered: Callable[[], None]) -> Callable[[], BranchEnd]:
        future: Future[BranchRecord] = self.threads.submit(branch.run)
        future.add_done_callback(lambda _: answered())

        def ended() -> BranchEnd:
            error = future.exception()
            if error is None:
                return BranchEnd(future.result())
            return BranchEnd(told=str(error), canceled=isinstance(error, RunCanceled))

        return ended


def opened(parameters: RunParameters, orchestrator: InProcess, *, base: Path | None = None) -> OpenedRun:
    """The run of these parameters, opened as a flow's body opens it.

    Raises:
        KilroyError: It is refused.
    """
    prepared = prepare_run(parameters, environ=os.environ, base=base)
    orchestrator.check(prepared)
    return open_run(prepared, orchestrator.identity(), orchestrator, carry_out, environ=os.environ)


def run_pipeline(parameters: RunParameters, orchestrator: InProcess | None = None, *, base: Path | None = None) -> FinalOutcome:
    """Runs a pipeline to its end, which is written as a state hook writes it.

    Raises:
        KilroyError: The run is refused.
    """
    found = opened(parameters, orchestrator or InProcess(), base=base)
    try:
        conduct(found)
        directory = found.run.directory
        return end_run(directory, found.run.started.owner, closing=closing_of(directory))
    finally:
        found.run.close()
