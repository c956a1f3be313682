"""Agent nodes: assemble the prompt, let the agent work, read its verdict."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from kilroy_engine.agents.base import Agent, AgentRequest, AgentResult
from kilroy_engine.agents.simulate import SimulatedAgent
from kilroy_engine.earlier import Usage
from kilroy_engine.errors import SessionLost
from kilroy_engine.events import LlmUsage, StatusIngestionDecision, WarningGiven
from kilroy_engine.graph.model import Node
from kilroy_engine.handlers.base import StageRequest
from kilroy_engine.handlers.prompt import assemble_prompt
from kilroy_engine.processes.stage_status import Ingestion, StatusPlaces, ingest_status, status_contract
from kilroy_engine.rundir.files.atomic import write_text
from kilroy_engine.traversal.failure import FailureClass
from kilroy_engine.traversal.outcome import Outcome, failure, success

RESPONSE_EXCERPT = 200
"""Characters of the response that go into the context (Spec 4.5)."""


@dataclass(frozen=True, slots=True)
class CodergenHandler:
    """Hands a node to the agent that ``agent_for`` names; a node without one fails, it never succeeds in silence."""

    agent_for: Callable[[Node], Agent | None]

    def __call__(self, request: StageRequest, /) -> Outcome:
        node = request.node
        agent = SimulatedAgent() if request.simulate else self.agent_for(node)
        if agent is None:
            reason = (
                f'no agent is configured for node "{node.id}"; name one in the settings, or choose "simulate" to run without'
            )
            return failure(reason, failure_class=FailureClass.DETERMINISTIC)
        contract = status_contract(request.run_id, request.work_dir)
        contract.clear()
        try:
            result = agent.run(_task(request, contract))
        except SessionLost as error:
            # A session is a convenience of the agent's; the run knows enough to begin another one.
            request.tell(WarningGiven(message=f"{node.id}: began a new session: {error}"))
            afresh = replace(request, carried=replace(request.carried, session=""))
            result = agent.run(_task(afresh, contract))
        for used in result.usage:
            request.tell(_told(node, used))
        if result.response.strip():
            write_text(request.stage_dir / "response.md", result.response)
        ingestion = ingest_status(contract, request.stage_dir)
        request.tell(
            StatusIngestionDecision(
                node_id=node.id,
                source=ingestion.source,
                copied=ingestion.copied,
                diagnostic=ingestion.diagnostic or None,
            )
        )
        return _outcome(node, result, ingestion)


def _task(request: StageRequest, contract: StatusPlaces) -> AgentRequest:
    """The task for the agent; ``prompt.md`` keeps what it is told."""
    prompt = assemble_prompt(request, contract)
    write_text(request.stage_dir / "prompt.md", prompt)
    return AgentRequest(
        node=request.node,
        prompt=prompt,
        stage_dir=request.stage_dir,
        work_dir=request.work_dir,
        environment={**request.environment, **contract.environment},
        timeout_s=request.timeout_s if request.timeout_s is not None else request.node.timeout_s,
        thread=request.carried.thread,
        session=request.carried.session,
        cancellation=request.cancellation,
        output=request.output,
        tell=request.tell,
    )


def _told(node: Node, used: Usage) -> LlmUsage:
    return LlmUsage(
        node_id=node.id,
        model=used.model,
        input_tokens=used.input_tokens,
        output_tokens=used.output_tokens,
        cost_usd=used.cost_usd,
    )


def _outcome(node: Node, result: AgentResult, ingestion: Ingestion) -> Outcome:
    """What the stage comes to without a valid status file."""
    outcome = _without_status(node, result, ingestion)
    updates = {**outcome.context_updates, "last_stage": node.id, "last_response": result.response[:RESPONSE_EXCERPT]}
    return outcome.with_updates(session=result.session, context_updates=updates)


def _without_status(node: Node, result: AgentResult, ingestion: Ingestion) -> Outcome:
    if result.outcome is not None:
        return result.outcome
    if node.auto_status:
        return success("auto-status: handler completed without writing status")
    return failure("; ".join(part for part in ("missing status.json (auto_status=false)", ingestion.diagnostic) if part))
