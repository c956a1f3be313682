"""The run's walk from its first node to the end, over as many ``loop_restart`` edges as it takes."""

from __future__ import annotations

from kilroy_engine.events import LoopRestart
from kilroy_engine.orchestration.opening import OpenRun
from kilroy_engine.orchestration.perform import TaskPerformer
from kilroy_engine.orchestration.recorder import LaneRecorder
from kilroy_engine.orchestration.updates import keep_large_inputs
from kilroy_engine.rundir.ending.finalize import Limits
from kilroy_engine.rundir.stages.restarts import make_restart
from kilroy_engine.traversal.restarts import persist_keys, restarted
from kilroy_engine.traversal.state import Finish, Restart, RunState
from kilroy_engine.traversal.walk import walk
from kilroy_engine.workspace.closing import push_events


def walk_run(run: OpenRun) -> Finish:
    """Walks the pipeline. Each restart goes on in a directory of its own, in the same place of work.

    Raises:
        RunCanceled: A stop was requested.
    """
    performer, recorder = TaskPerformer(run.lane), LaneRecorder(run.lane)

    def restart(step: Restart, _state: RunState) -> RunState:
        recorder.restarting(step)
        state = begin_restart(run, step)
        performer.work_on(run.lane)
        recorder.work_on(run.lane)
        return state

    begins = keep_large_inputs(run.lane, run.state)
    return walk(run.graph, begins, perform=performer, recorder=recorder, restart=restart)


def begin_restart(run: OpenRun, restart: Restart) -> RunState:
    """Moves the run to its next ``restart-N``; the state that it begins there with.

    The line ``loop_restart`` comes before the directory: whoever sees that has been told, and a start that is killed in
    between makes the restart again.

    Raises:
        RunCanceled: A stop was requested.
        RunDirectoryError: The disk refused.
    """
    run.cancellation.raise_if_requested()
    for event in push_events(run.workspace, run.settings.push_remote, limit_s=Limits().push_s):
        run.emit(event)
    state = restarted(keep_large_inputs(run.lane, run.beginning()), restart)
    run.emit(
        LoopRestart(
            restart_count=state.restart_count,
            target_node=restart.target,
            new_logs_root=str(run.directory.restart(state.restart_count).path),
            persist_keys=persist_keys(run.graph),
        )
    )
    run.move_to(make_restart(run.directory, state, git_commit_sha=run.workspace.head()))
    return state
