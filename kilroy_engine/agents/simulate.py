"""An agent that does nothing, always in the same way: for trying out a pipeline's shape."""

from __future__ import annotations

from kilroy_engine.agents.base import AgentRequest, AgentResult
from kilroy_engine.errors import SessionLost
from kilroy_engine.traversal.outcome import success

_SESSION = "simulated"


class SimulatedAgent:
    """Answers every task with the same text and success (Spec 4.5). Its sessions count the tasks of their thread."""

    def run(self, request: AgentRequest, /) -> AgentResult:
        session = _next_session(request)
        response = f"[Simulated] Response for stage: {request.node.id}"
        request.output("stdout", response)
        outcome = success(f"simulated: no agent has worked on {request.node.id}")
        return AgentResult(response, outcome=outcome, session=session)


def _next_session(request: AgentRequest) -> str:
    """``simulated:<tasks so far>:<thread>``; empty for a task without a thread."""
    if not request.thread:
        return ""
    if not request.session:
        return f"{_SESSION}:1:{request.thread}"
    kind, _, rest = request.session.partition(":")
    tasks, _, thread = rest.partition(":")
    if kind != _SESSION or thread != request.thread or not tasks.isdecimal():
        raise SessionLost(f"session {request.session} is none of thread {request.thread}", node=request.node.id)
    return f"{_SESSION}:{int(tasks) + 1}:{thread}"
