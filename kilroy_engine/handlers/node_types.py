"""Which node types can be served. Imports no handler: looking at a pipeline costs less than running it."""

from __future__ import annotations

from kilroy_engine.graph.model import CALL_TYPES
from kilroy_engine.plugins import plugins

ENTRY_POINTS = "kilroy_engine.handlers"
"""Entry point group of handlers; the name is the node type, the object a handler or a class whose instances are."""

BUILT_IN_TYPES = frozenset(
    {"start", "exit", "conditional", "tool", "wait.human", "codergen", "parallel", "parallel.fan_in"}
    | {"stack.manager_loop", "pipeline", *CALL_TYPES}
)


def known_types() -> frozenset[str]:
    """Every node type that can be served, plug-ins included; none of them is loaded."""
    return frozenset({*BUILT_IN_TYPES, *plugins(ENTRY_POINTS)})
