"""Branches of a fan-out as task runs, submitted to the run's pool; their stages are task runs inside them."""

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
    """A parameter that nobody looks into: Prefect searches dataclasses for futures, Dask makes plain tuples of Prefect's own
    ``quote``."""

    def __init__(self, branch: BranchAtWork) -> None:
        self.branch = branch


@task(name="branch", persist_result=False, cache_policy=NO_CACHE)
def run_branch(sealed: _Sealed) -> State:
    """One branch, from its first stage to the join. The state's data holds the branch's result."""
    try:
        result = sealed.branch.run()
    except RunCanceled as canceled:
        return to_task_state(failure(str(canceled)), canceled=True)
    return to_task_state(result.outcome, returned=result)


@dataclass(frozen=True, slots=True)
class TaskRunBranches:
    """Submits branches to one of Prefect's task runners."""

    runner: Any

    def submit(self, branch: BranchAtWork, answered: Callable[[], None]) -> Callable[[], BranchEnd]:
        """Submits the branch as a task run."""
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
    """A runner of up to ``size`` branches at a time."""
    with pool.open(size) as runner:
        yield TaskRunBranches(runner)
