"""The real server and worker of these tests; see ``tests/real_prefect.py``, which the fault tests use too."""

from real_prefect import prefect, repository, worker

__all__ = ["prefect", "repository", "worker"]
