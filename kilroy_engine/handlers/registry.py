"""Which handler serves which type of node."""

from __future__ import annotations

from collections.abc import Callable
from difflib import get_close_matches
from typing import cast

from kilroy_engine.agents.base import Agent
from kilroy_engine.errors import UnknownHandler
from kilroy_engine.graph.loops import LOOP_BEGIN, LOOP_END
from kilroy_engine.graph.model import Node
from kilroy_engine.handlers import markers
from kilroy_engine.handlers.base import Handler
from kilroy_engine.handlers.codergen import CodergenHandler
from kilroy_engine.handlers.human import wait_human
from kilroy_engine.handlers.manager import ManagerHandler, run_pipeline
from kilroy_engine.handlers.node_types import ENTRY_POINTS, known_types
from kilroy_engine.handlers.parallel import FanInHandler, fan_out
from kilroy_engine.handlers.prefect_call import call_prefect
from kilroy_engine.handlers.tool import run_tool
from kilroy_engine.plugins import distribution_of, plugins

_BUILT_IN: dict[str, Handler] = {
    "start": markers.start,
    "exit": markers.exit,
    "conditional": markers.conditional,
    LOOP_BEGIN: markers.loop_begin,
    LOOP_END: markers.loop_end,
    "tool": run_tool,
    "wait.human": wait_human,
    "parallel": fan_out,
    "pipeline": run_pipeline,
    "prefect.task": call_prefect,
    "prefect.flow": call_prefect,
}
_AGENT_TYPE = "codergen"


def no_agent(node: Node) -> Agent | None:
    """For a run without agents: every agent node fails and says so."""
    del node
    return None


class HandlerRegistry:
    """Handlers by node type. ``agent_for`` says who works on an agent node, None for nobody."""

    def __init__(self, agent_for: Callable[[Node], Agent | None] = no_agent) -> None:
        self._agent_for = agent_for
        self._handlers: dict[str, Handler] = {
            **_BUILT_IN,
            _AGENT_TYPE: CodergenHandler(agent_for),
            "parallel.fan_in": FanInHandler(agent_for),
            "stack.manager_loop": ManagerHandler(agent_for),
        }

    def __reduce__(self) -> tuple[type[HandlerRegistry], tuple[Callable[[Node], Agent | None]]]:
        return HandlerRegistry, (self._agent_for,)

    def resolve(self, node: Node) -> Handler:
        """The handler for ``node``. A built-in type cannot be taken over by a plug-in.

        Raises:
            UnknownHandler: Nothing serves the type, or the plug-in that should is broken.
        """
        handler = self._handlers.get(node.type)
        if handler is None:
            handler = self._handlers[node.type] = _load(node)
        return handler


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
    known = sorted(known_types())
    near = get_close_matches(node.type, known, n=1)
    rest = f'did you mean "{near[0]}"?' if near else f"known types are {', '.join(known)}"
    return f'node "{node.id}": no handler for type "{node.type}"; {rest}'


def _broken(node: Node, distribution: str, reason: str) -> str:
    return f'node "{node.id}": the handler for type "{node.type}" of {distribution} cannot be loaded: {reason}'
