"""A child pipeline: a run in a thread, with a directory of its own, in the place of work of the run around it.

A child is mostly an ordinary run: it has a flow run, its stages are task runs of that flow run, and the same hooks write its
end. It cannot outlive the run around it. So it handles no signals, starts no reconciler, and emits no events about start and
end.
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
"""How long a child may take to stop. Less than the time that a supervisor gives the whole process."""
_log = logging.getLogger(__name__)


@dataclass
class ChildRun:
    """A child pipeline of ``node``, visited in ``lane`` from ``state``. ``resumes`` says that the child has begun in an earlier
    start."""

    lane: Lane
    node: Node
    file: Path
    directory: RunDirectory
    state: RunState
    record: SupervisorRecord
    resumes: bool = False
    _opened: OpenedRun | None = None
    _end_reason: str = ""
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
        """The options of the child's run: its directory, and whether the run is resumed there."""
        directory = str(self.directory.path)
        if self.resumes:
            return Options(resume_from=directory)
        return Options(logs_root=directory, run_id=self.lane.run_id)

    def start(self) -> None:
        """Starts the child's thread. Writes first whose child it is, so that any process that ends the run also ends the
        child."""
        make_folder(self.directory.path)
        self.record.write(self.directory)
        start_thread(self._work, name=f"kilroy-child-{self.node.id}")

    def facts(self) -> ChildFacts:
        """The facts about the child now. Until the child is opened, the end of an earlier start is ignored."""
        over = self._over.is_set()
        if self._opened is not None:
            return child_facts(self.directory)
        return ChildFacts(ChildStatus.FAILED, failure_reason=self._end_reason) if over else ChildFacts()

    def wait(self, timeout_s: float) -> bool:
        """Waits up to ``timeout_s`` seconds for the child's end. Returns whether the child has ended."""
        return self._over.wait(timeout_s)

    def stop(self, told: str) -> None:
        """Stops the child and waits until its processes are gone. ``told`` completes the reason ``canceled: …``."""
        self.cancellation.request(StopKind.PARENT, told)
        if not self._over.wait(STOP_WAIT_S):
            _log.warning("%s does not stop within %g s; its processes are ended", self.directory.path, STOP_WAIT_S)
            end_process_groups(self.directory, grace_s=END_GRACE_S)

    def conduct(self, identity: Identity) -> Conclusion:
        """Opens the child's run and carries it out. The orchestrator calls this in the child's thread.

        Raises:
            KilroyError: The child was refused and has not begun, or the child broke off and its conclusion is on disk.
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
            self._end_reason = self.lane.orchestrator.child(self)
        except Exception as error:  # noqa: BLE001 - an orchestrator may raise anything, and the waiting node needs the reason
            self._end_reason = f"{type(error).__name__}: {error}"
        finally:
            self._see_to_end()
            self._over.set()

    def _see_to_end(self) -> None:
        """Writes the child's end if no hook has written one, as without a server. Called before waiters learn that the child is
        over."""
        if self._opened is None:
            return
        run = self._opened.run
        try:
            end_run(self.directory, run.started.owner)
        except KilroyError as error:
            _log.warning("%s has no end yet: %s", self.directory.path, error)
        finally:
            run.close()
