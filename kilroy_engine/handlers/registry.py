"""Finds the handler for a node's type."""

from __future__ import annotations

from collections.abc import Callable
from difflib import get_close_matches
from importlib import import_module
from typing import cast

from kilroy_engine.agents.base import Agent, KnowsProviders
from kilroy_engine.errors import UnknownHandler
from kilroy_engine.graph.model import Node
from kilroy_engine.graph.node_types import NODE_TYPES, NodeType
from kilroy_engine.handlers.base import Handler
from kilroy_engine.handlers.node_types import ENTRY_POINTS, known_types
from kilroy_engine.plugins import distribution_of, plugins


def no_agent(node: Node) -> Agent | None:
    """For a run without agents: each agent node fails with a message."""
    del node
    return None


class HandlerRegistry:
    """Handlers by node type. ``agent_for`` returns the agent for a node, or None."""

    def __init__(self, agent_for: Callable[[Node], Agent | None] = no_agent) -> None:
        self._agent_for = agent_for
        self._handlers = {row.name: _built_in(row, agent_for) for row in NODE_TYPES.values() if row.served}

    def __reduce__(self) -> tuple[type[HandlerRegistry], tuple[Callable[[Node], Agent | None]]]:
        """A pickled registry builds its handlers again, so that a branch can be sent to another process."""
        return HandlerRegistry, (self._agent_for,)

    def provider_of(self, node: Node) -> str:
        """The provider whose models an agent uses for ``node``; empty for none."""
        chooser: object = self._agent_for
        return chooser.provider(node) if isinstance(chooser, KnowsProviders) else ""

    def resolve(self, node: Node) -> Handler:
        """The handler for ``node``. A plug-in cannot replace a built-in type.

        Raises:
            UnknownHandler: No handler exists for the type, or its plug-in is broken.
        """
        handler = self._handlers.get(node.type)
        if handler is None:
            handler = self._handlers[node.type] = _load(node)
        return handler


def _built_in(row: NodeType, agent_for: Callable[[Node], Agent | None]) -> Handler:
    """The handler that a row of the node types names. A handler class takes ``agent_for``, because some of its nodes need an
    agent."""
    module, _, name = row.handler.partition(":")
    found: object = getattr(import_module(f"kilroy_engine.handlers.{module}"), name)
    return cast("Handler", found(agent_for) if isinstance(found, type) else found)


def _load(node: Node) -> Handler:
    plugin = plugins(ENTRY_POINTS).get(node.type)
    if plugin is None:
        raise UnknownHandler(_unknown(node), node=node.id, type=node.type)
    try:
        found: object = plugin.load()
        handler = found() if isinstance(found, type) else found
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        raise UnknownHandler(_broken(node, distribution_of(plugin), reason), node=node.id, type=node.type) from error
    if not callable(handler):
        reason = f"{plugin.value} is no handler, it cannot be called"
        raise UnknownHandler(_broken(node, distribution_of(plugin), reason), node=node.id, type=node.type)
    return cast("Handler", handler)


def _unknown(node: Node) -> str:
    known = sorted(name for name in known_types() if name not in NODE_TYPES or NODE_TYPES[name].served)
    near = get_close_matches(node.type, known, n=1)
    rest = f'did you mean "{near[0]}"?' if near else f"known types are {', '.join(known)}"
    return f'node "{node.id}": no handler for type "{node.type}"; {rest}'


def _broken(node: Node, distribution: str, reason: str) -> str:
    return f'node "{node.id}": the handler for type "{node.type}" of {distribution} cannot be loaded: {reason}'
