"""Tasks and questions for agents: what an agent is handed beside its prompt, the same for every handler that has one."""

from __future__ import annotations

from collections.abc import Mapping

from kilroy_engine.agents.base import Agent, AgentLimits, AgentRequest, AgentResult
from kilroy_engine.graph.attributes import read_duration_s, read_int
from kilroy_engine.handlers.base import StageRequest
from kilroy_engine.rundir.files.atomic import write_text


def task_for(request: StageRequest, prompt: str, more_environment: Mapping[str, str] | None = None) -> AgentRequest:
    """The task of a stage for an agent. ``more_environment`` comes on top of the stage's."""
    node, settings = request.node, request.settings
    turns, tokens = (_above_0(node.text(name)) for name in ("max_agent_turns", "max_tokens"))
    return AgentRequest(
        node=node,
        prompt=prompt,
        stage_dir=request.stage_dir,
        work_dir=request.work_dir,
        effort=node.text("reasoning_effort").strip().lower(),
        environment={**request.environment, **(more_environment or {})},
        variables=settings.agent_environment,
        limits=AgentLimits(
            total_s=settings.agent_timeout_s or float("inf"),
            idle_s=settings.agent_idle_timeout_s or float("inf"),
            heartbeat_s=heartbeat_s(request.environment, settings.stall_timeout_s),
            turns=turns or settings.agent_max_turns,
            output_tokens=tokens,
            cost_usd=request.cost_left_usd,
        ),
        timeout_s=request.timeout_s if request.timeout_s is not None else node.timeout_s,
        cancellation=request.cancellation,
        output=request.output,
        tell=request.tell,
    )


def ask(agent: Agent, request: StageRequest, prompt: str) -> AgentResult:
    """The agent's answer to a question about other stages' work: no status file, no session, nothing of it but the answer.

    ``prompt.md`` and ``response.md`` in the stage's directory keep both.
    """
    write_text(request.stage_dir / "prompt.md", prompt)
    result = agent.run(task_for(request, prompt))
    write_text(request.stage_dir / "response.md", result.response)
    return result


def _above_0(text: str) -> int | None:
    number = read_int(text, default=None)
    return number if number and number > 0 else None


HEARTBEAT_VARIABLE = "KILROY_CODERGEN_HEARTBEAT_INTERVAL"
_SHORTEST_S, _LONGEST_S = 0.05, 60.0


def heartbeat_s(environment: Mapping[str, str], stall_timeout_s: float | None) -> float:
    """Seconds between two signs of life (Kilroy: the variable, else a third of the stall limit, a minute at most)."""
    wished = read_duration_s(environment.get(HEARTBEAT_VARIABLE, ""), default=None)
    if wished:
        return wished
    return min(_LONGEST_S, max(_SHORTEST_S, stall_timeout_s / 3)) if stall_timeout_s else _LONGEST_S
