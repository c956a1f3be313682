"""Carries out a fan-out: runs its branches side by side and judges their results by the fan-out's policy.

The branches run within the fan-out's own visit. The visit lasts as long as they do, and its outcome says how they ended. A
finished branch has a record on disk. A resume reads the record and runs only the other branches.
"""

from __future__ import annotations

import queue
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from kilroy_engine.errors import StopKind
from kilroy_engine.events import EarlyTermination, WarningGiven
from kilroy_engine.execution.branching.branch import RUN_ENDS, BranchWork
from kilroy_engine.execution.branching.branch_watch import BranchWatch
from kilroy_engine.execution.lane import Lane
from kilroy_engine.execution.ports import BranchEnd, BranchRunner
from kilroy_engine.execution.visiting.commits import commit_visit
from kilroy_engine.graph.model import Node
from kilroy_engine.handlers.base import FanOut
from kilroy_engine.rundir.files.inside import make_way_to
from kilroy_engine.rundir.files.layout import RunDirectory
from kilroy_engine.rundir.stages.branches import (
    BranchRecord,
    FanOutRecord,
    branch_directory,
    last_pass,
    pass_directory,
    shown_results,
    write_results,
)
from kilroy_engine.traversal.branch_plan import Branch, branch_state
from kilroy_engine.traversal.failure import FailureClass
from kilroy_engine.traversal.fanin import (
    MERGE_MODE_KEY,
    RESULTS_KEY,
    early_termination,
    failures,
    successes,
    verdict,
    visible_results,
)
from kilroy_engine.traversal.outcome import Outcome, Status, failure
from kilroy_engine.traversal.state import RunState
from kilroy_engine.traversal.walk import JOIN_NODE_KEY
from kilroy_engine.workspace.branching import BranchWorkspace
from kilroy_engine.workspace.git_refs import ref_part
from kilroy_engine.workspace.git_worktree import GitWorkspace

_TICK_S = 0.2


def fan_out(lane: Lane, node: Node, effect: FanOut, state: RunState, *, attempt: int) -> Outcome:
    """Runs the branches and judges their results.

    Raises:
        RunCanceled: The run is to stop. No branch is at work any more.
        WorkspaceError: A place of work for a branch cannot be made.
    """
    this_pass = _begin_pass(lane, node, effect, state, attempt)
    works = [_work(lane, node, effect, state, branch, this_pass) for branch in effect.plan.branches]
    results = _Dispatch(lane, node, effect, works).run()
    lane.cancellation.raise_if_requested()
    write_results(lane.directory.stage(node.id), results)
    outcome = verdict(effect.policy, results)
    plan, told = effect.plan, outcome.notes or outcome.failure_reason
    merge_mode = "fan_in_handler" if plan.merges else "manual_box_fan_in"
    return outcome.with_updates(
        notes=f"parallel fan-out complete ({len(results)} branches), join={plan.join_node_id}; {told}",
        context_updates={
            JOIN_NODE_KEY: plan.join_node_id,
            MERGE_MODE_KEY: merge_mode if effect.workspace is BranchWorkspace.OWN else "shared_workspace",
            RESULTS_KEY: shown_results(visible_results(effect.policy, results)),
        },
        # A later commit of the fan-out itself would keep the run's branch from being fast-forwarded to a winner.
        committed=this_pass.base_sha,
    )


@dataclass(frozen=True, slots=True)
class _Pass:
    directory: RunDirectory
    number: int
    base_sha: str


def _begin_pass(lane: Lane, node: Node, effect: FanOut, state: RunState, attempt: int) -> _Pass:
    """Continues the interrupted pass, or begins a new one. The pass has the commit that its branches begin at; the winner's
    work follows from that commit."""
    number, done = last_pass(lane.directory, node.id), state.completed.count(node.id)
    own = effect.workspace is BranchWorkspace.OWN
    if number and attempt == 1:
        earlier = pass_directory(lane.directory, node.id, number)
        record = FanOutRecord.find(earlier)
        same = record is not None and (record.join_node_id, record.round) == (effect.plan.join_node_id, done)
        if record is not None and same and _advance_to_its_start(lane, node, record, own=own):
            return _Pass(earlier, number, record.base_sha)
    this_pass = pass_directory(lane.directory, node.id, number + 1)
    base_sha = commit_visit(lane, node.id, Status.SUCCESS) if own else ""
    make_way_to(lane.directory.path, this_pass.path)
    record = FanOutRecord(
        node_id=node.id, join_node_id=effect.plan.join_node_id, base_sha=base_sha, round=done, attempt=attempt
    )
    record.write(this_pass)
    return _Pass(this_pass, number + 1, base_sha)


def _advance_to_its_start(lane: Lane, node: Node, interrupted: FanOutRecord, *, own: bool) -> bool:
    """Moves a resumed run's worktree on to the commit that the branches of the interrupted pass began at. Returns False if the
    pass cannot be continued. Branches in the run's own worktree made no commits, and the resume has put the worktree back."""
    workspace = lane.workspace
    if not isinstance(workspace, GitWorkspace):
        return True
    sha = interrupted.base_sha
    if own and workspace.advance(sha) and workspace.head() == sha:
        return True
    why = (
        f"the commit that its branches began at ({sha}) is gone or does not follow from {workspace.head()}"
        if own
        else "its branches worked in the run's worktree, which was put back to the last commit"
    )
    lane.emit(WarningGiven(message=f"node {node.id}: {why}, so they begin anew"))
    return False


def _work(lane: Lane, node: Node, effect: FanOut, state: RunState, branch: Branch, this_pass: _Pass) -> BranchWork:
    return BranchWork(
        lane=lane,
        fan_out_id=node.id,
        branch=branch,
        directory=branch_directory(this_pass.directory, branch),
        path=(*lane.path, f"{ref_part(node.id)}.pass{this_pass.number}.{branch.key}"),
        ref=(".".join((*lane.names, node.id)), f"pass{this_pass.number}", branch.key),
        base_sha=this_pass.base_sha,
        join_node_id=effect.plan.join_node_id,
        state=branch_state(state, node, branch),
        shared=effect.workspace is BranchWorkspace.SHARED,
        copy_max_bytes=effect.copy_max_bytes,
        cancellation=lane.cancellation.linked(),
    )


@dataclass
class _Dispatch:
    """Runs the branches, at most ``max_parallel`` at a time, until all have ended or the policy's verdict is certain."""

    lane: Lane
    node: Node
    effect: FanOut
    works: Sequence[BranchWork]
    answered: queue.SimpleQueue[int] = field(default_factory=queue.SimpleQueue[int])
    begun: set[int] = field(default_factory=set[int])
    running: dict[int, Callable[[], BranchEnd]] = field(default_factory=dict[int, Callable[[], BranchEnd]])

    def run(self) -> list[BranchRecord]:
        waiting = deque(range(len(self.works)))
        results: list[BranchRecord] = []
        policy, stopped = self.effect.policy, False
        watch = BranchWatch(self.lane)
        with (
            self.lane.orchestrator.branches(min(policy.max_parallel, len(self.works))) as runner,
            self._stopping_branches_on_exception(),
        ):
            while waiting or self.running:
                if self.lane.cancellation.requested and not stopped:
                    stopped = True
                    waiting.clear()
                    self._stop(self.running, StopKind.PARENT, RUN_ENDS)
                while waiting and len(self.running) < policy.max_parallel:
                    self._submit(runner, waiting.popleft())
                for number in self._next_answers():
                    results.append(self._result(number))
                    reason = "" if stopped else early_termination(policy, results)
                    if reason and (waiting or self.running):
                        stopped = True
                        waiting.clear()
                        self._stop_others(reason, results)
                watch.look([self.works[number] for number in self.running], time.monotonic())
        return results

    @contextmanager
    def _stopping_branches_on_exception(self) -> Generator[None]:
        """Asks all branches to stop when an exception leaves the block. Otherwise leaving the runner would wait for the
        branches' ends."""
        try:
            yield
        except BaseException:
            self._stop(self.begun, StopKind.PARENT, RUN_ENDS)
            raise

    def _submit(self, runner: BranchRunner, number: int) -> None:
        work = self.works[number]
        work.make_ready()
        self.begun.add(number)  # before `submit`: a signal may come while the branch begins
        self.running[number] = runner.submit(work, lambda: self.answered.put(number))

    def _next_answers(self) -> list[int]:
        """Numbers of the branches that have ended since the last call. Waits a moment for the first one."""
        if not self.running:
            return []
        try:
            numbers = [self.answered.get(timeout=_TICK_S)]
        except queue.Empty:
            return []
        while not self.answered.empty():
            numbers.append(self.answered.get())
        return numbers

    def _result(self, number: int) -> BranchRecord:
        work, ended = self.works[number], self.running.pop(number)()
        # The result is on disk even if the branch's process or connection was lost after the branch had written it.
        result = ended.result or work.found()
        if result is not None:
            return result
        # No result: the run is to stop, or the branch could not write its record.
        failed = failure(ended.told, failure_class=FailureClass.CANCELED if ended.canceled else "")
        return work.result(failed, error=ended.told)

    def _stop_others(self, reason: str, results: Sequence[BranchRecord]) -> None:
        self.lane.emit(
            EarlyTermination(
                node_id=self.node.id,
                reason=reason,
                received=len(results),
                total=len(self.works),
                success_so_far=len(successes(results)),
                fail_so_far=len(failures(results)),
            )
        )
        self._stop(self.running, StopKind.ANSWERED, reason)

    def _stop(self, numbers: Iterable[int], kind: StopKind, told: str) -> None:
        for number in numbers:
            self.works[number].stop(kind, told)
