"""The real server and worker of these tests, see ``tests/real_prefect.py``, which the fault tests use too; the stub of the
model providers and the real agents, see ``tests/agent_stub``."""

from agent_stub.fixtures import agent_clis, agent_stub
from real_prefect import prefect, repository, worker

__all__ = ["agent_clis", "agent_stub", "prefect", "repository", "worker"]
