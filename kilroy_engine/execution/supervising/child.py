"""A child pipeline: a run of its own in a thread, with its own directory, in the place of work of the run around it.

It is an ordinary run in most ways: the orchestrator gives it a flow run, its stages are task runs of that, the same hooks write
its end. What is different follows from the run around it, which it cannot outlive: no signals, no reconciler, no events about
start and end.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from kilroy_engine.errors import KilroyError, StopKind
from kilroy_engine.execution.conduct import conduct
from kilroy_engine.execution.lane import Lane
from kilroy_engine.execution.opening import Host, OpenedRun, open_run
from kilroy_engine.execution.ports import Identity
from kilroy_engine.execution.preparing.preparation import RunParameters, prepare_child
from kilroy_engine.execution.run import END_GRACE_S
from kilroy_engine.graph.model import Node
from kilroy_engine.rundir.ending.finalize import end_run
from kilroy_engine.rundir.files.layout import RunDirectory
from kilroy_engine.rundir.files.records import Conclusion
from kilroy_engine.rundir.files.regular import make_folder
from kilroy_engine.rundir.stages.children import SupervisorRecord, child_facts
from kilroy_engine.rundir.stages.process_groups import end_process_groups
from kilroy_engine.settings.options import Options
from kilroy_engine.threads import start_thread
from kilroy_engine.traversal.state import RunState
from kilroy_engine.traversal.supervision import ChildFacts, ChildStatus, inherited_context

STOP_WAIT_S = 20.0
"""How long a child that was asked to stop may take: less than the patience of a supervisor that ends the whole process."""
_log = logging.getLogger(__name__)


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
    _opened: OpenedRun | None = None
    _told: str = ""
    _over: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self.cancellation = self.lane.cancellation.linked()

    @property
    def node_id(self) -> str:
        return self.node.id

    @property
    def inputs(self) -> Mapping[str, str]:
        return self.lane.inputs.shown

    @property
    def options(self) -> Options:
        """Where its directory is, and whether it goes on there."""
        directory = str(self.directory.path)
        if self.resumes:
            return Options(resume_from=directory)
        return Options(logs_root=directory, run_id=self.lane.run_id)

    def start(self) -> None:
        """Starts the thread. The directory says at once whose child this is, so that whoever ends the run ends it too."""
        make_folder(self.directory.path)
        self.record.write(self.directory)
        start_thread(self._work, name=f"kilroy-child-{self.node.id}")

    def facts(self) -> ChildFacts:
        """What is seen of it now. An end that an earlier start has left is not taken for this one's."""
        over = self._over.is_set()
        if self._opened is not None:
            return child_facts(self.directory)
        return ChildFacts(ChildStatus.FAILED, failure_reason=self._told) if over else ChildFacts()

    def wait(self, timeout_s: float) -> bool:
        """Waits up to ``timeout_s`` seconds for its end; whether it has ended."""
        return self._over.wait(timeout_s)

    def stop(self, told: str) -> None:
        """Stops it and waits until it has: its processes are gone then. ``told`` completes ``canceled: …``."""
        self.cancellation.request(StopKind.PARENT, told)
        if not self._over.wait(STOP_WAIT_S):
            _log.warning("%s does not stop within %g s; its processes are ended", self.directory.path, STOP_WAIT_S)
            end_process_groups(self.directory, grace_s=END_GRACE_S)

    def conduct(self, identity: Identity) -> Conclusion:
        """Opens the child's run and carries it out. The orchestrator calls this, in the child's thread.

        Raises:
            KilroyError: It was refused and has not begun, or it broke off, which is on disk then.
        """
        lane = self.lane
        parameters = RunParameters(graph=str(self.file), inputs=self.inputs, options=self.options)
        prepared = prepare_child(
            parameters, lane.settings, around=lane.pipelines, base_sha=lane.workspace.head(), environ=lane.environment
        )
        lane.orchestrator.check(prepared)
        within = (self.record.name,) if self.record.name else ()
        host = Host(lane, self.cancellation, within, inherited_context(self.state.context))
        self._opened = open_run(prepared, identity, lane.orchestrator, lane.carry_out, environ=os.environ, host=host)
        return conduct(self._opened)

    def _work(self) -> None:
        try:
            self._told = self.lane.orchestrator.child(self)
        except Exception as error:  # noqa: BLE001 - whatever an orchestrator raises here, the node that waits has to be told
            self._told = f"{type(error).__name__}: {error}"
        finally:
            self._see_to_end()
            self._over.set()

    def _see_to_end(self) -> None:
        """Without a server no hook runs; the child has its end all the same before anybody is told that it is over."""
        if self._opened is None:
            return
        run = self._opened.run
        try:
            end_run(self.directory, run.started.owner)
        except KilroyError as error:
            _log.warning("%s has no end yet: %s", self.directory.path, error)
        finally:
            run.close()
