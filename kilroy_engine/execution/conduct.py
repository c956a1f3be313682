"""Conducts an opened run: from its place of work through the walk, over every restart, to its conclusion on disk."""

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
    """Walks the pipeline and stages what that came to. The end itself is the state hook's to write.

    ``around`` is what the orchestrator does beside the walk. It is over before child processes are ended: what works on
    branches elsewhere could begin new ones.

    Whatever passes through here, a termination signal included, leaves no child process behind.
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
    """How the run ended, and why."""
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
    """The walk, each restart in a directory of its own, in the same place of work."""
    lane, state, after = opened.lane, keep_large_inputs(opened.lane, opened.state), ()
    while True:
        performer, recorder = Performer(lane, after), LaneRecorder(lane)
        step = walk(lane.graph, state, perform=performer, recorder=recorder)
        if isinstance(step, Finish):
            return step
        lane, state = begin_restart(opened, lane, step)
        after = performer.after


def begin_restart(opened: OpenedRun, left: Lane, restart: Restart) -> tuple[Lane, RunState]:
    """Moves the run to its next ``restart-N``; the lane there, and the state that the walk begins with.

    The line ``loop_restart`` comes before the directory: whoever sees that has been told, and a start that is killed in
    between makes the restart again.

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
