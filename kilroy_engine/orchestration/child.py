"""A child pipeline: a subflow in a thread of its own, with its own directory, in the place of work of the run around it.

It is an ordinary run in most ways: its stages are task runs of its flow run, the same state hooks write its end. What is
different follows from the run around it, which it cannot outlive: no signals, no reconciler, no events about start and end.
"""

from __future__ import annotations

import contextvars
import logging
import os
import threading
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from prefect import State, flow, tags
from prefect.context import FlowRunContext
from prefect.runtime import flow_run as current
from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings
from prefect.states import Failed

from kilroy_engine.errors import KilroyError
from kilroy_engine.graph.model import Node
from kilroy_engine.orchestration.call_checks import require_callable
from kilroy_engine.orchestration.hooks import finalize
from kilroy_engine.orchestration.lane import Lane
from kilroy_engine.orchestration.locate import Identity
from kilroy_engine.orchestration.opening import END_GRACE_S, OpenRun, open_run
from kilroy_engine.orchestration.preparation import RunParameters, prepare_child
from kilroy_engine.orchestration.settings import Options
from kilroy_engine.orchestration.states import to_flow_state
from kilroy_engine.orchestration.walking import walk_through
from kilroy_engine.orchestration.watch import IN_PREFECT, watching
from kilroy_engine.rundir.ending.finalize import end_of, finalize_run
from kilroy_engine.rundir.files.layout import RunDirectory
from kilroy_engine.rundir.files.regular import make_folder
from kilroy_engine.rundir.stages.children import SupervisorRecord, child_facts
from kilroy_engine.rundir.stages.process_groups import end_process_groups
from kilroy_engine.traversal.state import RunState
from kilroy_engine.traversal.supervision import ChildFacts, ChildStatus, inherited_context

STOP_WAIT_S = 20.0
"""How long a child that was asked to stop may take: less than the patience of a supervisor that ends the whole process."""
_log = logging.getLogger(__name__)
_THIS: contextvars.ContextVar[ChildRun] = contextvars.ContextVar("kilroy_child")


@dataclass
class ChildRun:
    """A child pipeline of ``node``, which is visited in ``lane`` from ``state``. ``resumes`` tells that it was begun before."""

    lane: Lane
    node: Node
    file: Path
    directory: RunDirectory
    state: RunState
    record: SupervisorRecord
    resumes: bool = False
    opened: OpenRun | None = None
    _refusal: str = ""
    _over: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self.cancellation = self.lane.cancellation.linked()

    def start(self) -> None:
        """Starts the thread. The directory says at once whose child this is, so that whoever ends the run ends it too."""
        make_folder(self.directory.path)
        self.record.write(self.directory)
        context = contextvars.copy_context()
        name = f"kilroy-child-{self.node.id}"
        threading.Thread(target=context.run, args=(self._work,), name=name, daemon=True).start()

    def facts(self) -> ChildFacts:
        """What is seen of it now. An end that an earlier start has left is not taken for this one's."""
        over = self._over.is_set()
        if self.opened is not None:
            return child_facts(self.directory)
        return ChildFacts(ChildStatus.FAILED, failure_reason=self._refusal) if over else ChildFacts()

    def wait(self, timeout_s: float) -> bool:
        """Waits up to ``timeout_s`` seconds for its end; whether it has ended."""
        return self._over.wait(timeout_s)

    def stop(self, source: str) -> None:
        """Stops it and waits until it has: its processes are gone then. ``source`` completes ``canceled: …``."""
        self.cancellation.request(source)
        if not self._over.wait(STOP_WAIT_S):
            _log.warning("%s does not stop within %g s; its processes are ended", self.directory.path, STOP_WAIT_S)
            end_process_groups(self.directory, grace_s=END_GRACE_S)

    def _work(self) -> None:
        _THIS.set(self)
        lane, directory = self.lane, str(self.directory.path)
        options = Options(resume_from=directory) if self.resumes else Options(logs_root=directory, run_id=lane.run_id)
        try:
            # The heartbeat of the flow run around it is enough, and the end of such a thread costs a second.
            with temporary_settings(updates={PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}), tags(*lane.tags):
                state: State = child_pipeline(
                    graph=str(self.file), inputs=dict(lane.inputs.shown), options=options, return_state=True
                )
            self._refusal = self._refusal or state.message or f"its flow run ended as {state.name}"
        except Exception as error:  # noqa: BLE001 - whatever Prefect raises here, the node that waits has to be told
            self._refusal = f"{type(error).__name__}: {error}"
        finally:
            self._see_to_end()
            self._over.set()

    def _see_to_end(self) -> None:
        """Without a server Prefect runs no hook; the child has its end all the same before anybody is told that it is over."""
        if self.opened is None:
            return
        owner = self.opened.started.owner
        try:
            finalize_run(self.directory, end_of(self.directory, flow_run_id=owner.flow_run_id), owner=owner)
        except KilroyError as error:
            _log.warning("%s has no end yet: %s", self.directory.path, error)
        finally:
            self.opened.close()


def _flow_run_name() -> str:
    """Name of the flow run: the node that runs it, the file, and the end of the flow run's id."""
    child = _THIS.get()
    return f"{child.node.id}-{child.file.stem}-{str(current.id)[-6:]}"


@flow(
    name="child pipeline",
    flow_run_name=_flow_run_name,
    persist_result=False,
    on_completion=[finalize],
    on_failure=[finalize],
    on_crashed=[finalize],
    on_cancellation=[finalize],
)
def child_pipeline(graph: str, inputs: dict[str, str], options: Options) -> Any:
    """A pipeline that a node of another one runs. It cannot be run by itself.

    Args:
        graph: Path of its DOT file.
        inputs: Inputs of the pipeline around it.
        options: Where its directory is.
    """
    child, context = _THIS.get(), FlowRunContext.get()
    assert context is not None
    assert context.flow_run is not None
    lane = child.lane
    parameters = RunParameters(graph=graph, inputs=inputs, options=options)
    try:
        prepared = replace(prepare_child(parameters, lane.settings, around=lane.pipelines), pool=lane.pool)
        require_callable(prepared)
        run = open_run(prepared, Identity.of(context.flow_run), environ=os.environ, host=lane.workspace)
    except KilroyError as refusal:
        child._refusal = str(refusal)  # pyright: ignore[reportPrivateUsage] - the flow's body is the thread's own work
        return Failed(message=str(refusal))
    run.cancellation, run.clock, run.handlers, run.limits = child.cancellation, lane.clock, lane.handlers, lane.limits
    run.within = (child.record.name,) if child.record.name else ()
    run.inherited = inherited_context(child.state.context)
    if not run.state.completed:
        run.state = replace(run.state, context={**run.inherited, **run.state.context})
    child.opened = run
    return _conduct(run)


def _conduct(run: OpenRun) -> State:
    try:
        with watching(run):
            status, reason = walk_through(run)
    except BaseException as passing:
        run.interrupted(passing)
        raise
    conclusion = run.conclude(status, reason)
    # Whoever stops the run around it does not tell Prefect of this flow run.
    return to_flow_state(conclusion, by_signal=run.cancellation.source not in ("", IN_PREFECT))
