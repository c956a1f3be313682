"""Where branches are carried out: threads of the flow's process."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any, Protocol

from prefect.task_runners import TaskRunner, ThreadPoolTaskRunner


class BranchPool(Protocol):
    """Gives each fan-out a task runner for its branches."""

    def open(self, size: int) -> Any:
        """A context manager around a task runner for up to ``size`` branches at a time."""
        ...


class ThreadBranchPool:
    """A thread per branch. Each fan-out has threads of its own: in one pool for all, a fan-out inside a branch would wait for
    threads that the branches around it hold."""

    @contextmanager
    def open(self, size: int) -> Generator[TaskRunner[Any]]:
        with ThreadPoolTaskRunner(max_workers=size) as runner:
            yield runner
