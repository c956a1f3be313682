"""The real server and worker of these tests; see ``tests/real_prefect.py``, which the fault tests use too."""

from real_prefect import (
    ROOT,
    Prefect,
    child_environment,
    ended,
    events,
    eventually,
    is_alive,
    prefect,
    recorded_pids,
    repository,
    scheduled_run,
    worker,
)

__all__ = [
    "ROOT",
    "Prefect",
    "child_environment",
    "ended",
    "events",
    "eventually",
    "is_alive",
    "prefect",
    "recorded_pids",
    "repository",
    "scheduled_run",
    "worker",
]
