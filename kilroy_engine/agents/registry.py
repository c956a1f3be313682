"""Agents by name."""

from __future__ import annotations

from typing import cast

from kilroy_engine.agents.base import Agent
from kilroy_engine.agents.simulate import SimulatedAgent
from kilroy_engine.errors import InvalidInput
from kilroy_engine.plugins import distribution_of, plugins

ENTRY_POINTS = "kilroy_engine.agents"
"""Entry point group of agents; the object is an agent or a class whose instances are."""

_BUILT_IN: dict[str, type[Agent]] = {"simulate": SimulatedAgent}


def agent_names() -> tuple[str, ...]:
    """Every name that :func:`named_agent` knows, plug-ins included; none of them is loaded."""
    return tuple(sorted({*_BUILT_IN, *plugins(ENTRY_POINTS)}))


def named_agent(name: str) -> Agent:
    """The agent called ``name``. A built-in name cannot be taken over by a plug-in.

    Raises:
        InvalidInput: Nobody has that name, or the plug-in that has it is broken.
    """
    if name in _BUILT_IN:
        return _BUILT_IN[name]()
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
