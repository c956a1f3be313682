"""An agent that does nothing, always in the same way: for trying out a pipeline's shape."""

from __future__ import annotations

from kilroy_engine.agents.base import AgentRequest, AgentResult
from kilroy_engine.traversal.outcome import success


class SimulatedAgent:
    """Answers every task with the same text and success (Spec 4.5)."""

    def run(self, request: AgentRequest, /) -> AgentResult:
        response = f"[Simulated] Response for stage: {request.node.id}"
        request.output("stdout", response)
        return AgentResult(response, outcome=success(f"simulated: no agent has worked on {request.node.id}"))
