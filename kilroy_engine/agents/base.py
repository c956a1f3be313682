"""The seam to whoever does an agent's work: a coding CLI, an API, a simulation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, runtime_checkable

from kilroy_engine.earlier import Usage
from kilroy_engine.events.base import EventSink, discard_event
from kilroy_engine.graph.model import Node
from kilroy_engine.processes.output import OutputSink, discard_output
from kilroy_engine.stopping import Cancellation
from kilroy_engine.traversal.outcome import Outcome


@dataclass(frozen=True, slots=True)
class AgentLimits:
    """What bounds one task. ``total_s`` where the node has no limit of its own, ``idle_s`` without a word of the agent's,
    ``heartbeat_s`` between two signs of life in the run's stream; all in seconds.

    ``turns`` of the model, ``output_tokens`` of one answer, ``cost_usd`` of the task: None for the agent's own.
    """

    total_s: float = 3600.0
    idle_s: float = 900.0
    heartbeat_s: float = 60.0
    turns: int | None = None
    output_tokens: int | None = None
    cost_usd: float | None = None


@dataclass(frozen=True)
class AgentRequest:
    """One task for an agent.

    ``model`` is as ``provider`` names it, empty for the agent's own choice; ``chosen_by`` says where the choice comes from.
    ``effort`` is ``low``, ``medium``, ``high`` or empty. ``environment`` is that of the stage: an agent lets through what is
    on its list, and the names in ``variables``. Logs go to ``stage_dir``, work happens in ``work_dir``. ``timeout_s`` limits
    the task, None for ``limits.total_s``. ``output`` gets what the agent says while it works, line by line; ``tell`` gets
    events about the stage while they arise, such as :class:`~kilroy_engine.events.LlmUsage`: they are on disk at once,
    whatever becomes of the task.

    ``thread`` is not empty where later stages may go on with this conversation: the agent keeps it and names it in its result.
    ``session`` is what it, or a later task of the thread, was named by before; empty for a new conversation.
    """

    node: Node
    prompt: str
    stage_dir: Path
    work_dir: Path
    provider: str = ""
    model: str = ""
    chosen_by: str = "graph_attrs"
    effort: str = ""
    environment: Mapping[str, str] = field(default_factory=dict[str, str])
    variables: tuple[str, ...] = ()
    limits: AgentLimits = field(default_factory=AgentLimits)
    timeout_s: float | None = None
    thread: str = ""
    session: str = ""
    cancellation: Cancellation = field(default_factory=Cancellation)
    output: OutputSink = discard_output
    tell: EventSink = discard_event


@dataclass(frozen=True, slots=True)
class AgentResult:
    """What came of a task.

    ``response`` is the agent's last word. ``outcome`` is set where the agent itself knows how it went, an expected failure
    above all (timed out, canceled, refused by its provider); without it the stage's status file decides.

    ``session`` is what continues this conversation, in a later process too; empty where nothing does. It is the agent's own
    word and comes back as it is. It should say whose it is: another stage of the thread may have another agent.

    ``usage`` is for agents of the version before, and becomes events when they have ended. Others tell while they work.
    """

    response: str
    outcome: Outcome | None = None
    session: str = ""
    usage: tuple[Usage, ...] = ()


class Agent(Protocol):
    """Does one task to its end. Stops within seconds when ``request.cancellation`` asks, leaving no process behind.

    Raises:
        TransientStageError: Another attempt may help: network, rate limit, provider trouble.
        PermanentStageError: Another attempt will not help: authentication, a bad request, a missing program.
        SessionLost: It does not know ``request.session``. Nothing was done; it is asked again for a new conversation.
    """

    def run(self, request: AgentRequest, /) -> AgentResult: ...


@runtime_checkable
class KnowsProviders(Protocol):
    """Who names agents for nodes and knows their providers: :class:`~kilroy_engine.agents.registry.AgentsOfRun`, whose module
    imports every adapter, and a look at a pipeline needs none of them."""

    def provider(self, node: Node, /) -> str:
        """The provider whose models work on the node; empty for none."""
        ...
