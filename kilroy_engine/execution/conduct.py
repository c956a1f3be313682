"""Conducts an opened run: prepares the place of work, walks the pipeline through all restarts, writes the conclusion."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

from kilroy_engine.errors import RunCanceled
from kilroy_engine.events import LoopRestart
from kilroy_engine.execution.lane import Lane
from kilroy_engine.execution.opening import OpenedRun
from kilroy_engine.execution.recorder import LaneRecorder, tell_opened
from kilroy_engine.execution.setup import SetupFailed, bring_back, run_setup_commands
from kilroy_engine.execution.visiting.performer import Performer
from kilroy_engine.execution.visiting.updates import keep_large_inputs
from kilroy_engine.execution.watch import watching
from kilroy_engine.rundir.ending.closing import ClosingLimits
from kilroy_engine.rundir.files.records import Conclusion
from kilroy_engine.rundir.stages.restarts import make_restart
from kilroy_engine.traversal.outcome import FinalStatus
from kilroy_engine.traversal.restarts import persist_keys, restarted
from kilroy_engine.traversal.state import Finish, Restart, RunState
from kilroy_engine.traversal.walk import walk
from kilroy_engine.workspace.closing import push_events


def conduct(opened: OpenedRun, around: AbstractContextManager[object] | None = None) -> Conclusion:
    """Walks the pipeline and writes ``conclusion.json``. The state hook writes the end of the run later.

    ``around`` is a context manager of the orchestrator that is active during the walk. It is left before child processes are
    ended, because processes that work on branches elsewhere could start new ones.

    No child process is left when an exception leaves this function, the exception of a termination signal included.
    """
    run = opened.run
    try:
        with around or nullcontext(), watching(run, opened.lane.settings):
            status, reason = _walk_through(opened)
    except BaseException as passing:
        run.interrupted(passing)
        raise
    return run.conclude(status, reason)


def _walk_through(opened: OpenedRun) -> tuple[FinalStatus, str]:
    """The final status of the run, and the reason."""
    tell_opened(opened)
    try:
        bring_back(opened)
        run_setup_commands(opened)
        finish = _walk_run(opened)
    except RunCanceled as canceled:
        return FinalStatus.FAIL if opened.run.cancellation.failed else FinalStatus.CANCELED, str(canceled)
    except SetupFailed as failed:
        return FinalStatus.FAIL, str(failed)
    return finish.status, finish.reason


def _walk_run(opened: OpenedRun) -> Finish:
    """Walks the pipeline. Each restart gets a directory of its own and keeps the place of work."""
    lane, state, after = opened.lane, keep_large_inputs(opened.lane, opened.state), ()
    while True:
        performer, recorder = Performer(lane, after), LaneRecorder(lane)
        step = walk(lane.graph, state, perform=performer, recorder=recorder)
        if isinstance(step, Finish):
            return step
        lane, state = begin_restart(opened, lane, step)
        after = performer.after


def begin_restart(opened: OpenedRun, left: Lane, restart: Restart) -> tuple[Lane, RunState]:
    """Moves the run to its next ``restart-N``. Returns the lane there and the state that the walk begins with.

    The event ``loop_restart`` is written before the directory is made. Readers that see the directory can find the event, and a
    start that is killed between the two steps makes the restart again after a resume.

    Raises:
        RunCanceled: A stop was requested.
        RunDirectoryError: The disk refused.
    """
    run, workspace = opened.run, left.workspace
    run.cancellation.raise_if_requested()
    for event in push_events(workspace, left.settings.push_remote, limit_s=ClosingLimits().push_s):
        run.emit(event)
    state = restarted(keep_large_inputs(left, opened.beginning()), restart)
    run.emit(
        LoopRestart(
            restart_count=state.restart_count,
            target_node=restart.target,
            new_logs_root=str(run.directory.restart(state.restart_count).path),
            persist_keys=persist_keys(left.graph),
        )
    )
    directory = make_restart(run.directory, state, git_commit_sha=workspace.head())
    return opened.lane_in(directory, run.move_to(directory)), state
