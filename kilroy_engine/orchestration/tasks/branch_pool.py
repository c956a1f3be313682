"""Where branches are carried out: threads of the flow's process, or a Dask cluster."""

from __future__ import annotations

import threading
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any, Protocol

from prefect.task_runners import TaskRunner, ThreadPoolTaskRunner


class BranchPool(Protocol):
    """Gives each fan-out a task runner for its branches."""

    def open(self, size: int) -> Any:
        """A context manager around a task runner for up to ``size`` branches at a time."""
        ...

    def close(self) -> None:
        """Lets go of processes and connections; the run is over."""
        ...


class ThreadBranchPool:
    """A thread per branch. Each fan-out has threads of its own: in one pool for all, a fan-out inside a branch would wait for
    threads that the branches around it hold."""

    @contextmanager
    def open(self, size: int) -> Generator[TaskRunner[Any]]:
        with ThreadPoolTaskRunner(max_workers=size) as runner:
            yield runner

    def close(self) -> None:
        return


class DaskBranchPool:
    """One Dask cluster for all fan-outs of a run, begun at the first. ``where`` is the address of a scheduler, or how many
    worker processes a cluster on this machine gets, or empty for Dask's own choice.

    A branch in a worker process runs the fan-outs inside it in threads there: they would begin clusters of their own else.
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
    """The pool that the setting names; what it needs is installed."""
    kind, _, where = task_runner.partition(":")
    return DaskBranchPool(where) if kind == "dask" else ThreadBranchPool()
