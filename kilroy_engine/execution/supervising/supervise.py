"""Carries out a node that runs a child pipeline: starts the child, looks at it in cycles, turns its end into an outcome."""

from __future__ import annotations

import itertools
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from kilroy_engine.errors import PipelineNotFound
from kilroy_engine.events import ManagerLoopCycle, ManagerLoopSteered, WarningGiven
from kilroy_engine.execution.lane import Lane
from kilroy_engine.execution.preparing.pipeline_file import find_child
from kilroy_engine.execution.supervising.child import ChildRun
from kilroy_engine.graph.model import Node
from kilroy_engine.handlers.base import Supervise
from kilroy_engine.limits import TEXT_BYTES
from kilroy_engine.processes.go_text import duration_text
from kilroy_engine.rundir.files.layout import RunDirectory
from kilroy_engine.rundir.files.regular import read_file
from kilroy_engine.rundir.ownership.ownership import current_owner
from kilroy_engine.rundir.stages.children import (
    SupervisorRecord,
    child_directory,
    child_facts,
    earlier_child,
    last_commit,
    set_aside,
    write_guidance,
)
from kilroy_engine.rundir.stages.stage_files import begun_visits
from kilroy_engine.traversal.failure import FailureClass
from kilroy_engine.traversal.outcome import Outcome, failure
from kilroy_engine.traversal.state import RunState
from kilroy_engine.traversal.supervision import ChildFacts, ChildStatus, Supervision, judge

STOPPED = "by its manager"
_TICK_S = 0.2
_WAIT_ONLY = Supervision(poll_interval_s=3600.0)


class Child(Protocol):
    """A child pipeline, run by this node or by somebody else."""

    @property
    def directory(self) -> RunDirectory: ...

    def facts(self) -> ChildFacts: ...

    def wait(self, timeout_s: float) -> bool: ...


@dataclass(frozen=True, slots=True)
class OthersChild:
    """A child pipeline that somebody else runs in ``directory``. The node only reads its files."""

    directory: RunDirectory

    def facts(self) -> ChildFacts:
        return child_facts(self.directory)

    def wait(self, timeout_s: float) -> bool:
        time.sleep(timeout_s)
        return False


def supervise(lane: Lane, node: Node, effect: Supervise, state: RunState, *, attempt: int) -> Outcome:
    """Runs the child pipeline and watches it until it ends or the node's plan is fulfilled. A child that this node runs is
    stopped before the function returns."""
    if not effect.child_file:
        return _Watch(lane, node, effect, state, OthersChild(child_directory(lane.directory.stage(node.id)))).run()
    file = find_child(effect.child_file, lane.folder, lane.workspace.path)
    if file is None:
        folders = " and ".join(str(folder) for folder in dict.fromkeys((lane.folder, lane.workspace.path)))
        return failure(f"child pipeline failed: there is no file {effect.child_file} (looked in {folders})")
    child = _child(lane, node, file, state, attempt)
    if child.resumes and child_facts(child.directory).status is ChildStatus.COMPLETED:
        return _Watch(lane, node, effect, state, OthersChild(child.directory)).run()
    with _at_work(child):
        outcome = _Watch(lane, node, effect, state, child).run()
    # A child that was stopped has other facts now than at the last look.
    return outcome.with_updates(context_updates=child.facts().context())


@contextmanager
def _at_work(child: ChildRun) -> Generator[None]:
    child.start()
    try:
        yield
    finally:
        if not child.wait(0):
            child.stop(STOPPED)


def _child(lane: Lane, node: Node, file: Path, state: RunState, attempt: int) -> ChildRun:
    """The child of this attempt: a new child, or the unfinished child of an earlier start."""
    stage_dir = lane.directory.stage(node.id)
    owner = current_owner(lane.base)
    start, finished = owner.start if owner else 1, state.completed.count(node.id)
    directory = child_directory(stage_dir)
    if attempt > 1:
        set_aside(stage_dir, attempt)
    earlier = earlier_child(stage_dir) if attempt == 1 else None
    resumes = (
        earlier is not None
        and _continues_earlier(lane, earlier, file, state, node, start=start)
        and _advance_to_its_work(lane, earlier, node)
    )
    if earlier is not None and resumes:
        earlier.path.rename(directory.path)
    name = SupervisorRecord.read(directory).name if resumes else _child_name(lane, node, stage_dir, attempt)
    record = SupervisorRecord(run_id=lane.run_id, node_id=node.id, start=start, finished_visits=finished, name=name)
    return ChildRun(lane, node, file, directory, state, record, resumes)


def _child_name(lane: Lane, node: Node, stage_dir: Path, attempt: int) -> str:
    """A name that no other child of the run has had. Interrupted visits count too."""
    return ".".join((*lane.names, node.id, f"visit{begun_visits(stage_dir)}", *([f"attempt{attempt}"] if attempt > 1 else [])))


def _continues_earlier(lane: Lane, earlier: RunDirectory, file: Path, state: RunState, node: Node, *, start: int) -> bool:
    """Whether this visit continues the ``earlier`` child. That child must be from an earlier start of the run that was
    interrupted in this visit or failed at it. A child whose file has changed begins anew."""
    record = SupervisorRecord.read(earlier)
    interrupted = record.finished_visits == state.completed.count(node.id)
    failed_there = state.last_node == node.id and child_facts(earlier).status is not ChildStatus.COMPLETED
    if record.start >= start or not (interrupted or failed_there) or not earlier.manifest.exists():
        return False
    try:
        same = read_file(earlier.graph_dot, limit_bytes=TEXT_BYTES) == file.read_bytes()
    except OSError as error:
        raise PipelineNotFound(f"child pipeline {file} cannot be read: {error.strerror}", path=file) from error
    if not same:
        lane.emit(WarningGiven(message=f"node {node.id}: the child pipeline {file} has changed, so it begins anew"))
    return same


def _advance_to_its_work(lane: Lane, earlier: RunDirectory, node: Node) -> bool:
    """Moves the place of work on to the child's last commit. A resume has put it back to the outer run's checkpoint, which may
    be older than the child's commits. Returns False if the commit is lost."""
    sha = last_commit(earlier)
    if lane.workspace.advance(sha):
        return True
    lane.emit(
        WarningGiven(
            message=f"node {node.id}: commit {sha or '(none)'} of its child pipeline is gone or does not follow from "
            f"{lane.workspace.head()}, so the child pipeline begins anew"
        )
    )
    return False


@dataclass
class _Watch:
    """The node's looks at one child."""

    lane: Lane
    node: Node
    effect: Supervise
    state: RunState
    child: Child

    def run(self) -> Outcome:
        """Looks at the child in cycles until there is an outcome. The end of the child ends a wait at once."""
        plan = self.effect.plan or _WAIT_ONLY
        limit_s = self.effect.timeout_s
        deadline = time.monotonic() + limit_s if limit_s else None
        seen_counts: tuple[int, int] | None = None
        for cycle in itertools.count(1):
            if self.effect.plan is not None and cycle <= plan.max_cycles:
                self.lane.emit(ManagerLoopCycle(node_id=self.node.id, cycle=cycle, max_cycles=plan.max_cycles))
            facts = self.child.facts()
            outcome = judge(plan, facts, cycle, self.state.context)
            if outcome is not None:
                return outcome.with_updates(context_updates=facts.context())
            if facts.status is ChildStatus.RUNNING and seen_counts != (facts.completed_count, facts.failed_count):
                seen_counts = facts.completed_count, facts.failed_count
                self._steer(facts, cycle)
            self._wait(plan.poll_interval_s, deadline)
            if self.lane.cancellation.requested:
                return failure("manager loop canceled", failure_class=FailureClass.CANCELED)
            if limit_s and deadline is not None and time.monotonic() >= deadline and not self.child.facts().ended:
                return failure(f"child pipeline timed out after {duration_text(limit_s)}")
        raise AssertionError("the count of cycles ended")

    def _wait(self, interval_s: float, deadline: float | None) -> None:
        until = time.monotonic() + interval_s
        if deadline is not None:
            until = min(until, deadline)
        while (left_s := until - time.monotonic()) > 0 and not self.lane.cancellation.requested:
            if self.child.wait(min(_TICK_S, left_s)):
                return

    def _steer(self, facts: ChildFacts, cycle: int) -> None:
        """Writes new guidance for the child's agents. Called at the first look, and after a stage was completed or an attempt
        failed."""
        text = self.effect.guide(facts) if self.effect.guide else ""
        if text.strip():
            write_guidance(self.child.directory, text)
            path = str(self.child.directory.guidance)
            self.lane.emit(ManagerLoopSteered(node_id=self.node.id, cycle=cycle, path=path))
