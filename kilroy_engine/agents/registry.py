"""Agents by name, and who of them works on a node."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import cast

from kilroy_engine.agents.base import Agent, AgentRequest, AgentResult
from kilroy_engine.agents.choosing import SIMULATE, Choice, Wishes, choose, installed_programs
from kilroy_engine.agents.claude import Claude
from kilroy_engine.agents.codex import Codex
from kilroy_engine.agents.command import CommandAgent
from kilroy_engine.agents.gemini import Gemini
from kilroy_engine.agents.running.call import ProgramAgent
from kilroy_engine.agents.running.program import Program
from kilroy_engine.agents.simulate import SimulatedAgent
from kilroy_engine.agents.variables import AgentVariables
from kilroy_engine.errors import InvalidInput
from kilroy_engine.events import Event
from kilroy_engine.graph.model import Node
from kilroy_engine.plugins import distribution_of, plugins
from kilroy_engine.settings.table import RunSettings

ENTRY_POINTS = "kilroy_engine.agents"
"""Entry point group of agents; the object is an agent or a class whose instances are."""

PROGRAMS: Mapping[str, Callable[[], Program]] = {"claude": Claude, "codex": Codex, "gemini": Gemini}
"""The agent programs that are known by name."""

_COMMAND = CommandAgent.name
_BUILT_IN: Mapping[str, Callable[[RunSettings], Agent]] = {
    "simulate": lambda settings: SimulatedAgent(),
    _COMMAND: lambda settings: ProgramAgent(CommandAgent(settings.agent_command)),
    **{name: (lambda settings, program=program: ProgramAgent(program())) for name, program in PROGRAMS.items()},
}


def agent_names() -> tuple[str, ...]:
    """Every name that :func:`named_agent` knows, plug-ins included; none of them is loaded."""
    return tuple(sorted({*_BUILT_IN, *plugins(ENTRY_POINTS)}))


def named_agent(name: str, settings: RunSettings | None = None) -> Agent:
    """The agent called ``name``. A built-in name cannot be taken over by a plug-in.

    Raises:
        InvalidInput: Nobody has that name, or the plug-in that has it is broken, or the settings lack what it needs.
    """
    if name in _BUILT_IN:
        return _BUILT_IN[name](settings or RunSettings())
    plugin = plugins(ENTRY_POINTS).get(name)
    if plugin is None:
        raise InvalidInput(f'there is no agent "{name}"; known agents are {", ".join(agent_names())}', name="agent")
    try:
        found: object = plugin.load()
        agent = found() if isinstance(found, type) else found
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        raise InvalidInput(f'agent "{name}" of {distribution_of(plugin)} cannot be loaded: {reason}', name="agent") from error
    if not callable(getattr(agent, "run", None)):
        raise InvalidInput(
            f'agent "{name}" of {distribution_of(plugin)} is no agent: {plugin.value} has no run()', name="agent"
        )
    return cast("Agent", agent)


@dataclass(frozen=True, slots=True)
class AgentsOfRun:
    """Who works on the nodes of a run: called with a node, the agent for it, None for nobody.

    ``path`` is the ``PATH`` that programs are looked for on. ``variables`` are what agents get beside those of the stage;
    None without a block, or before it has been read.
    Another process can be sent it.
    """

    settings: RunSettings
    path: str
    variables: AgentVariables | None = None

    def __call__(self, node: Node) -> Agent | None:
        choice = self.choice(node)
        variables = self.variables or AgentVariables()
        return _Chosen(named_agent(choice.agent, self.settings), choice, variables) if choice.agent else None

    def choice(self, node: Node) -> Choice:
        """The agent, provider and model for the node."""
        settings = self.settings
        wishes = Wishes(settings.agent, settings.provider_agents, settings.model_aliases)
        return choose(node, wishes, installed_programs(self.path))

    def provider(self, node: Node) -> str:
        """The provider whose models work on the node; empty for none, a simulation above all."""
        choice = self.choice(node)
        return "" if self.settings.simulate or choice.agent == SIMULATE else choice.provider

    def program(self, choice: Choice) -> Program | None:
        """The program of the chosen agent; None where the agent is no program.

        Raises:
            InvalidInput: The agent does not exist or is broken.
        """
        agent = named_agent(choice.agent, self.settings)
        return agent.program if isinstance(agent, ProgramAgent) else None

    def problem(self, node: Node) -> str:
        """Why nobody can work on the node, one sentence with the mend; empty where somebody can.

        Raises:
            InvalidInput: The agent that is asked for does not exist or is broken.
        """
        choice = self.choice(node)
        if not choice.agent:
            return "no agent is configured, and none is installed; " + _MEND
        program = self.program(choice)
        name = program.executable if program is not None else ""
        # One with a folder in its name is looked for where it is started: in the place of work, which is not there yet.
        if name and ("/" not in name or name.startswith("/")) and shutil.which(name, path=self.path) is None:
            return f"its agent {choice.agent} needs the program {name}, which is not installed or not on PATH; {_MEND}"
        return ""


_MEND = (
    "install one (claude, codex or gemini), name another with --agent, or give --simulate for a run without side effects"
    ", --agent simulate to simulate agents only"
)


_KEY_ENDINGS = ("KEY", "TOKEN", "SECRET", "PASSWORD")
"""A variable that the settings let through to agents is a secret where its name ends so."""


@dataclass(frozen=True, slots=True)
class _Chosen:
    """An agent that is told which model was chosen for the node, and gets the variables of that model's provider.

    Keys that an agent prints are blotted out of everything that is kept of it.
    """

    agent: Agent
    choice: Choice
    variables: AgentVariables

    def run(self, request: AgentRequest, /) -> AgentResult:
        choice = self.choice
        keys = self.agent.program.keys if isinstance(self.agent, ProgramAgent) else ()
        named = (name for name in request.variables if name.endswith(_KEY_ENDINGS))
        own = self.variables.hiding(request.environment.get(key, "").strip() for key in (*keys, *named))
        task = replace(request, provider=choice.provider, model=choice.model, chosen_by=choice.source)
        more = own.of(choice.provider)
        if not (more or own.hidden):
            return self.agent.run(task)

        def output(stream: str, line: str) -> None:
            request.output(stream, own.masked(line))

        def tell(event: Event) -> None:
            request.tell(own.masked_event(event))

        environment, variables = {**task.environment, **more}, (*task.variables, *more)
        task = replace(task, environment=environment, variables=variables, output=output, tell=tell)
        try:
            result = self.agent.run(task)
        finally:
            own.clean(request.stage_dir)
        outcome = own.masked_outcome(result.outcome) if result.outcome is not None else None
        return replace(result, response=own.masked(result.response), outcome=outcome)
