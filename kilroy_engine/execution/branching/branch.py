"""One branch of a fan-out: its lane, its walk, its record. A branch runs in a thread of the flow's process or in another
process."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import cast

from pydantic import JsonValue

from kilroy_engine.errors import KilroyError, RunCanceled, StopKind
from kilroy_engine.events import BranchProgress, Event, WarningGiven
from kilroy_engine.events.times import now
from kilroy_engine.execution.lane import Lane
from kilroy_engine.execution.recorder import LaneRecorder
from kilroy_engine.execution.visiting.performer import Performer
from kilroy_engine.rundir.files.artifacts import require_artifacts
from kilroy_engine.rundir.files.checkpoint import load_checkpoint
from kilroy_engine.rundir.files.inside import make_way_to
from kilroy_engine.rundir.files.layout import RunDirectory
from kilroy_engine.rundir.files.records import CancelRequest
from kilroy_engine.rundir.files.regular import remove
from kilroy_engine.rundir.ownership.ownership import owner_alive
from kilroy_engine.rundir.stages.branches import BranchRecord
from kilroy_engine.rundir.stages.stage_files import begun_visits
from kilroy_engine.rundir.stream.progress import ProgressLog
from kilroy_engine.stopping import Cancellation
from kilroy_engine.threads import beside
from kilroy_engine.traversal.branch_plan import Branch, branch_outcome, changed_context
from kilroy_engine.traversal.failure import FailureClass
from kilroy_engine.traversal.outcome import Outcome, failure
from kilroy_engine.traversal.resume import resumed_state
from kilroy_engine.traversal.state import Finish, RunState
from kilroy_engine.traversal.walk import walk
from kilroy_engine.workspace.base import Workspace
from kilroy_engine.workspace.branching import branch_name, branch_place, holds_work
from kilroy_engine.workspace.git_worktree import GitWorkspace
from kilroy_engine.workspace.plain import PlainWorkspace

_POLL_S = 0.5
_OWNER_POLL_S = 5.0
RUN_ENDS = "the run is to stop"


@dataclass(frozen=True, kw_only=True)
class BranchWork:
    """Everything that a branch needs to run. Can be pickled: the process that gets it opens the files of ``lane`` anew.

    ``lane`` is the fan-out's lane. ``path`` tells the branch from all other branches of the run. ``ref`` are the parts of its
    git branch's name.
    """

    lane: Lane
    fan_out_id: str
    branch: Branch
    directory: RunDirectory
    path: tuple[str, ...]
    ref: tuple[str, ...]
    base_sha: str
    join_node_id: str
    state: RunState
    shared: bool
    copy_max_bytes: int
    cancellation: Cancellation
    process_id: int = field(default_factory=os.getpid)

    @property
    def node_id(self) -> str:
        """The fan-out's node."""
        return self.fan_out_id

    @property
    def key(self) -> str:
        """The branch's name within its fan-out."""
        return self.branch.key

    def run(self) -> BranchRecord:
        """See :func:`run_through`."""
        return run_through(self)

    @property
    def is_elsewhere(self) -> bool:
        """Whether this process is another process than the flow's."""
        return self.process_id != os.getpid()

    def stop(self, kind: StopKind, told: str) -> None:
        """Asks the branch to stop. Also writes the request to disk, for a branch in another process.

        A branch that stops with the run around it (``PARENT``) has no result yet: a resume continues the branch.
        """
        self.cancellation.request(kind, told)
        CancelRequest(source=told, kind=kind, at=now()).write(self.directory)

    def make_ready(self) -> None:
        """Makes the branch's directory and removes a stop request of an earlier start. Called before the branch begins."""
        make_way_to(self.lane.directory.path, self.directory.path)
        remove(self.directory.cancel_request)

    def found(self) -> BranchRecord | None:
        """The branch's result on disk; None if there is none."""
        return BranchRecord.find(self.directory)

    def result(self, outcome: Outcome, *, error: str = "") -> BranchRecord:
        """The result of a branch that did not get through its walk."""
        return BranchRecord(
            branch_key=self.branch.key,
            start_node_id=self.branch.start_node_id,
            stop_node_id=self.join_node_id,
            outcome=outcome,
            logs_root=str(self.directory.path),
            worktree_dir=str(self.directory.worktree),
            error=error,
        )

    def tell(self, step: str, **facts: str) -> None:
        """Records a step of the branch in the stream of the fan-out's lane."""
        self.lane.emit(
            BranchProgress(
                branch_key=self.branch.key,
                branch_logs_root=str(self.directory.path),
                branch_event=step,
                **facts,  # type: ignore[arg-type]
            )
        )


def run_through(work: BranchWork) -> BranchRecord:
    """Runs the branch from its checkpoint, or from its beginning, to its end. The result of a branch that is over is read from
    disk.

    Raises:
        RunCanceled: The whole run is to stop. A resume can continue the branch.
    """
    _forget_lost_work(work)
    if (known := work.found()) is not None:
        return known
    started = time.monotonic()
    with _watched(work):
        try:
            result = _walked(work)
        except RunCanceled as canceled:
            if work.lane.cancellation.requested or canceled.kind is StopKind.PARENT:
                raise
            reason = str(canceled)
            result = work.result(failure(reason, failure_class=FailureClass.CANCELED), error=reason)
        except KilroyError as error:
            result = work.result(failure(str(error)), error=str(error))
    result = result.model_copy(update={"duration_ms": round((time.monotonic() - started) * 1000)})
    result.write(work.directory)
    reason = result.outcome.failure_reason
    work.tell(
        "branch_subgraph_done",
        branch_status=str(result.outcome.status),
        **({"branch_failure_reason": reason} if reason else {}),
    )
    return result


def _forget_lost_work(work: BranchWork) -> None:
    """Removes checkpoint and result of a branch whose commits or copied folder are gone, so that the branch begins anew.

    Raises:
        CorruptRecord: A record is damaged.
    """
    known = work.found()
    checkpoint = load_checkpoint(work.directory) if work.directory.checkpoint.exists() else None
    if work.shared or checkpoint is None:
        return
    sha = known.head_sha if known else checkpoint.git_commit_sha
    if holds_work(work.lane.workspace, work.directory.worktree, sha):
        return
    lost = f"its commit {sha}" if sha else f"its folder {work.directory.worktree}"
    work.lane.emit(WarningGiven(message=f"branch {work.branch.key}: {lost} is gone, so the branch begins anew"))
    BranchRecord.path_in(work.directory).unlink(missing_ok=True)
    work.directory.checkpoint.unlink()


def _walked(work: BranchWork) -> BranchRecord:
    work.tell("branch_setup_start")
    workspace, state = _place_and_state(work)
    work.tell("branch_setup_ready")
    progress = ProgressLog(work.directory, work.lane.run_id)
    progress.listen(lambda event: _relay(work, event))
    lane = replace(
        work.lane,
        directory=work.directory,
        progress=progress,
        workspace=workspace,
        path=work.path,
        cancellation=work.cancellation,
    )
    recorder = _BranchRecorder(lane)
    try:
        work.tell("branch_subgraph_start")
        finish = walk(lane.graph, state, perform=Performer(lane), recorder=recorder, until=work.join_node_id)
    finally:
        progress.close()
        workspace.close()
    assert isinstance(finish, Finish)  # no edge in a branch can restart the run
    state = recorder.state
    return BranchRecord(
        branch_key=work.branch.key,
        branch_name=workspace.branch,
        start_node_id=work.branch.start_node_id,
        stop_node_id=work.join_node_id,
        head_sha=workspace.head(),
        last_node_id=state.last_node,
        outcome=branch_outcome(lane.graph, work.branch, work.join_node_id, finish, state),
        completed_nodes=state.completed,
        logs_root=str(work.directory.path),
        worktree_dir=str(workspace.path),
        context=cast("dict[str, JsonValue]", changed_context(work.state.context, state.context)),
    )


class _BranchRecorder(LaneRecorder):
    """Keeps the last state, because a walk returns only how it ended."""

    state: RunState

    def finished(self, finish: Finish, state: RunState, /) -> None:
        super().finished(finish, state)
        self.state = state


def _place_and_state(work: BranchWork) -> tuple[Workspace, RunState]:
    """The branch's place of work and the state that its walk begins with: the checkpoint's, or the fan-out's."""
    graph, directory = work.lane.graph, work.directory
    checkpoint = load_checkpoint(directory) if directory.checkpoint.exists() else None
    saved = checkpoint.state if checkpoint else work.state
    require_artifacts(directory, saved.context)
    state, _ = resumed_state(graph, saved, lambda node_id: begun_visits(directory.stage(node_id)))
    if work.shared:
        return PlainWorkspace(work.lane.workspace.path), state
    if checkpoint is None:
        place = branch_place(
            work.lane.workspace, directory.worktree, name=work.ref, sha=work.base_sha, max_bytes=work.copy_max_bytes
        )
        if place.warning:
            work.tell("branch_ignored_files_warning", warning=place.warning)
        return place.workspace, state
    if isinstance(work.lane.workspace, GitWorkspace):
        workspace = work.lane.workspace.beside(directory.worktree, branch_name(work.ref), work.base_sha)
        workspace.restore(checkpoint.git_commit_sha or work.base_sha)
        return workspace, state
    return PlainWorkspace(directory.worktree.resolve()), state


def _relay(work: BranchWork, event: Event) -> None:
    """Repeats an event of the branch in the stream of the fan-out's lane, with Kilroy's field names."""
    found = {name: value for name in _RELAYED if (value := getattr(event, name, None)) not in (None, "")}
    work.lane.emit(
        BranchProgress(
            branch_key=work.branch.key,
            branch_logs_root=str(work.directory.path),
            branch_event=event.event,
            **{_RELAYED[name]: value for name, value in found.items()},
        )
    )


_RELAYED = {
    "node_id": "branch_node_id",
    "status": "branch_status",
    "failure_reason": "branch_failure_reason",
    "attempt": "branch_attempt",
    "max": "branch_max",
    "from_node": "branch_from_node",
    "to_node": "branch_to_node",
}


@contextmanager
def _watched(work: BranchWork) -> Generator[None]:
    """In another process than the flow's: watches for a stop request on disk and for the death of the flow's process."""
    if not work.is_elsewhere:
        yield
        return
    next_look = 0.0

    def watch(finished: threading.Event) -> None:
        nonlocal next_look
        while not finished.wait(_POLL_S):
            request = CancelRequest.find(work.directory)
            if request is not None:
                work.cancellation.request(request.kind, request.source)
            if time.monotonic() >= next_look:
                next_look = time.monotonic() + _OWNER_POLL_S
                if not owner_alive(work.lane.base):
                    work.cancellation.request(StopKind.PARENT, RUN_ENDS)

    with beside(watch, name="kilroy-branch-watch", join_s=None), work.lane.orchestrator.elsewhere():
        yield
