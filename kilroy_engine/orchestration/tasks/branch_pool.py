"""Where the branches of fan-outs run: in threads of the flow's process, or on a Dask cluster."""

from __future__ import annotations

import threading
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any, Protocol

from prefect.task_runners import TaskRunner, ThreadPoolTaskRunner


class BranchPool(Protocol):
    """Gives each fan-out a task runner for its branches."""

    def open(self, size: int) -> Any:
        """A context manager that gives a Prefect task runner for up to ``size`` branches at a time."""
        ...

    def close(self) -> None:
        """Ends processes and connections. Called once, when the run is over."""
        ...


class ThreadBranchPool:
    """Runs each branch in a thread. Each fan-out has its own threads: with one pool for all fan-outs, a fan-out inside a branch
    would wait for the threads that the outer branches hold."""

    @contextmanager
    def open(self, size: int) -> Generator[TaskRunner[Any]]:
        with ThreadPoolTaskRunner(max_workers=size) as runner:
            yield runner

    def close(self) -> None:
        return


class DaskBranchPool:
    """One Dask cluster for all fan-outs of a run, started at the first fan-out.

    ``where`` is the address of a scheduler, or the number of worker processes of a cluster on this machine, or empty for
    Dask's default. A pickled pool becomes a :class:`ThreadBranchPool`: fan-outs inside a branch run in threads of the branch's
    worker process, and start no further cluster.
    """

    def __init__(self, where: str) -> None:
        self._where = where
        self._lock = threading.Lock()
        self._runner: Any = None

    def __reduce__(self) -> tuple[type[ThreadBranchPool], tuple[()]]:
        return ThreadBranchPool, ()

    @contextmanager
    def open(self, size: int) -> Generator[TaskRunner[Any]]:
        with self._lock:
            if self._runner is None:
                self._runner = self._begin()
        yield self._runner

    def close(self) -> None:
        with self._lock:
            runner, self._runner = self._runner, None
        if runner is not None:
            runner.__exit__(None, None, None)

    def _begin(self) -> Any:
        from prefect_dask.task_runners import DaskTaskRunner  # noqa: PLC0415 - an extra, which may not be installed

        if "://" in self._where:
            runner = DaskTaskRunner(address=self._where)
        else:
            # A branch waits for child processes most of the time, so a worker takes several at once.
            workers = {"n_workers": int(self._where)} if self._where else {}
            runner = DaskTaskRunner(cluster_kwargs={**workers, "threads_per_worker": 8, "dashboard_address": None})
        return runner.__enter__()


def branch_pool(task_runner: str) -> BranchPool:
    """The pool that the setting ``task_runner`` names: ``dask`` or ``dask:WHERE``, else threads."""
    kind, _, where = task_runner.partition(":")
    return DaskBranchPool(where) if kind == "dask" else ThreadBranchPool()
