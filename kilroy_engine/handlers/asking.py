"""A question to an agent about other stages' work: no status file, no session, nothing of it but the answer."""

from __future__ import annotations

from kilroy_engine.agents.base import Agent, AgentRequest, AgentResult
from kilroy_engine.handlers.base import StageRequest
from kilroy_engine.rundir.files.atomic import write_text


def ask(agent: Agent, request: StageRequest, prompt: str) -> AgentResult:
    """The agent's answer. ``prompt.md`` and ``response.md`` in the stage's directory keep both."""
    write_text(request.stage_dir / "prompt.md", prompt)
    result = agent.run(
        AgentRequest(
            node=request.node,
            prompt=prompt,
            stage_dir=request.stage_dir,
            work_dir=request.work_dir,
            environment=dict(request.environment),
            timeout_s=request.timeout_s,
            cancellation=request.cancellation,
            output=request.output,
        )
    )
    write_text(request.stage_dir / "response.md", result.response)
    return result
