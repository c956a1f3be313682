"""Nodes that run a child pipeline: a manager, which watches the child in cycles, and a plain nested pipeline (Spec 4.11)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from kilroy_engine.agents.base import Agent
from kilroy_engine.errors import ConditionSyntaxError
from kilroy_engine.graph.children import child_file, starts_child
from kilroy_engine.graph.model import Node
from kilroy_engine.handlers.asking import ask
from kilroy_engine.handlers.base import StageRequest, Supervise
from kilroy_engine.traversal.outcome import Outcome, failure
from kilroy_engine.traversal.supervision import ChildFacts, Supervision


def run_pipeline(request: StageRequest, /) -> Supervise | Outcome:
    """Asks for the child pipeline that ``dot_file`` names. The child's end gives the node's outcome."""
    named = child_file(request.graph, request.node)
    if named is None:
        return failure("no dot_file: the node names no child pipeline")
    return Supervise(named.value.strip(), timeout_s=request.timeout_s)


@dataclass(frozen=True, slots=True)
class ManagerHandler:
    """Watches a child pipeline. If the manager steers and has an agent, the agent writes the guidance."""

    agent_for: Callable[[Node], Agent | None]

    def __call__(self, request: StageRequest, /) -> Supervise | Outcome:
        node = request.node
        named = child_file(request.graph, node)
        starts = starts_child(node)
        if starts and named is None:
            return failure("stack.child_autostart=true but no stack.child_dotfile set")
        try:
            plan = Supervision.of(node)
        except ConditionSyntaxError as error:
            return failure(f"manager.stop_condition: {error.message}")
        return Supervise(
            child_file=named.value.strip() if named is not None and starts else "",
            plan=plan,
            guide=self._guide(request) if plan.steers and node.has("prompt") else None,
            timeout_s=request.timeout_s,
        )

    def _guide(self, request: StageRequest) -> Callable[[ChildFacts], str]:
        agent = None if request.simulate else self.agent_for(request.node)
        return partial(_prompt_as_guidance, request) if agent is None else partial(_guidance_by_agent, request, agent)


def _prompt_as_guidance(request: StageRequest, facts: ChildFacts) -> str:
    """Guidance without an agent: the facts about the child, then the node's prompt."""
    return f"{observation(facts)}\n\n{request.node.prompt.strip()}\n"


def _guidance_by_agent(request: StageRequest, agent: Agent, facts: ChildFacts) -> str:
    """Guidance by an agent: the agent's answer to the facts about the child and the node's prompt."""
    prompt = f"{observation(facts)}\n\n{request.node.prompt.strip()}\n\n{_HOW_TO_ANSWER}"
    return ask(agent, request, prompt).response


def observation(facts: ChildFacts) -> str:
    """The facts about the child as text, for the agent and in the guidance."""
    lines = [
        "CHILD PIPELINE",
        f"- at work on: {facts.current_node or 'nothing yet'}",
        f"- stages completed: {facts.completed_count}",
        f"- attempts failed: {facts.failed_count}",
    ]
    return "\n".join([*lines, f"- last failure: {facts.failure_reason}"] if facts.failure_reason else lines)


_HOW_TO_ANSWER = (
    "You supervise this child pipeline and share its work folder. Change no file. Answer with the guidance for the agents of "
    "its next stages; an empty answer says nothing to them."
)
