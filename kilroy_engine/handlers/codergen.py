"""Agent nodes: assemble the prompt, let the agent work, read its verdict."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from kilroy_engine.agents.base import Agent, AgentRequest, AgentResult
from kilroy_engine.agents.simulate import SimulatedAgent
from kilroy_engine.earlier import Usage
from kilroy_engine.errors import SessionLost
from kilroy_engine.events import LlmUsage, StatusContract, StatusIngestionDecision, WarningGiven
from kilroy_engine.graph.model import Node
from kilroy_engine.handlers.asking import task_for
from kilroy_engine.handlers.base import StageRequest
from kilroy_engine.handlers.prompt import assemble_prompt
from kilroy_engine.processes.stage_status import Ingestion, StatusPlaces, ingest_status, status_contract
from kilroy_engine.rundir.files.atomic import write_text
from kilroy_engine.traversal.failure import FailureClass
from kilroy_engine.traversal.outcome import Outcome, Status, failure, success

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
        contract = status_contract(request.run_id, request.work_dir, request.beside)
        contract.clear()
        request.tell(
            StatusContract(node_id=node.id, status_path=str(contract.primary), status_fallback_path=str(contract.fallback))
        )
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
        return _outcome(request, result, ingestion)


def _task(request: StageRequest, contract: StatusPlaces) -> AgentRequest:
    """The task for the agent; ``prompt.md`` keeps what it is told."""
    prompt = assemble_prompt(request, contract)
    write_text(request.stage_dir / "prompt.md", prompt)
    task = task_for(request, prompt, contract.environment)
    return replace(task, thread=request.carried.thread, session=request.carried.session)


def _told(node: Node, used: Usage) -> LlmUsage:
    return LlmUsage(
        node_id=node.id,
        model=used.model,
        input_tokens=used.input_tokens,
        output_tokens=used.output_tokens,
        cost_usd=used.cost_usd,
    )


def _outcome(request: StageRequest, result: AgentResult, ingestion: Ingestion) -> Outcome:
    """What the stage comes to without a valid status file."""
    node = request.node
    outcome = _without_status(request, result, ingestion)
    updates = {**outcome.context_updates, "last_stage": node.id, "last_response": result.response[:RESPONSE_EXCERPT]}
    return outcome.with_updates(session=result.session, context_updates=updates)


def _without_status(request: StageRequest, result: AgentResult, ingestion: Ingestion) -> Outcome:
    node = request.node
    if result.outcome is not None:
        return result.outcome
    if ingestion.unreadable:
        reason = f"the agent's status file cannot be read: {ingestion.unreadable}; {ingestion.diagnostic}"
        return failure(reason, failure_class=FailureClass.DETERMINISTIC)
    if node.auto_status:
        return success("auto-status: handler completed without writing status")
    if _has_no_tools(node):
        return success("the agent has answered; it has no tools to leave a status with")
    if (node.text("missing_status").strip() or request.settings.missing_status) == "success":
        return success("the agent has ended well and left no status")
    reason = "; ".join(part for part in ("missing status.json (auto_status=false)", ingestion.diagnostic) if part)
    if node.goal_gate:
        return Outcome(Status.RETRY, failure_reason=reason, failure_class=FailureClass.DETERMINISTIC)
    return failure(reason, failure_class=FailureClass.DETERMINISTIC)


def _has_no_tools(node: Node) -> bool:
    """A node of one answer: Kilroy's ``agent_mode=one_shot``, fabro's ``tab``."""
    return node.shape == "tab" or node.text("agent_mode").strip().lower() == "one_shot"
