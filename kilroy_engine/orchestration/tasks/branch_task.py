"""Runs each branch of a fan-out as a Prefect task run in the run's pool. A branch's stages are task runs inside of that one."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from prefect import State, task
from prefect.cache_policies import NO_CACHE
from prefect.futures import PrefectFuture

from kilroy_engine.errors import RunCanceled
from kilroy_engine.execution.ports import BranchAtWork, BranchEnd
from kilroy_engine.orchestration.states import take_returned, to_task_state
from kilroy_engine.orchestration.tasks.branch_pool import BranchPool
from kilroy_engine.rundir.stages.branches import BranchRecord
from kilroy_engine.traversal.outcome import failure


class _Sealed:
    """Wraps the branch as a task parameter. Prefect would search a bare dataclass for futures, and Dask turns Prefect's own
    ``quote`` into a plain tuple."""

    def __init__(self, branch: BranchAtWork) -> None:
        self.branch = branch


@task(name="branch", persist_result=False, cache_policy=NO_CACHE)
def run_branch(sealed: _Sealed) -> State:
    """Runs one branch to its end. The state's data holds the :class:`BranchRecord`."""
    try:
        result = sealed.branch.run()
    except RunCanceled as canceled:
        return to_task_state(failure(str(canceled)), canceled=True)
    return to_task_state(result.outcome, returned=result)


@dataclass(frozen=True, slots=True)
class TaskRunBranches:
    """Submits the branches of one fan-out to ``runner``, a Prefect task runner."""

    runner: Any

    def submit(self, branch: BranchAtWork, answered: Callable[[], None]) -> Callable[[], BranchEnd]:
        """Submits the branch as a task run. ``answered`` is called when the task run ends, in any thread.

        Returns a function that waits for the task run and gives the branch's end.
        """
        node_id = branch.node_id
        branch_task = run_branch.with_options(name=f"{node_id}-branch", task_run_name=f"{node_id}: {branch.key}")
        future: PrefectFuture[Any] = self.runner.submit(branch_task, parameters={"sealed": _Sealed(branch)})
        future.add_done_callback(lambda _future: answered())

        def ended() -> BranchEnd:
            future.wait()
            state = future.state
            returned = take_returned(state)
            told = state.message or f"the branch's task run ended as {state.name}"
            return BranchEnd(returned if isinstance(returned, BranchRecord) else None, told, canceled=state.is_cancelled())

        return ended


@contextmanager
def task_run_branches(pool: BranchPool, size: int) -> Generator[TaskRunBranches]:
    """Gives a runner of up to ``size`` branches at a time, for one fan-out."""
    with pool.open(size) as runner:
        yield TaskRunBranches(runner)
