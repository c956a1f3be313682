"""Which node types can be named. Imports no handler: looking at a pipeline costs less than running it."""

from __future__ import annotations

from kilroy_engine.graph.node_types import BUILT_IN_TYPES
from kilroy_engine.plugins import plugins

ENTRY_POINTS = "kilroy_engine.handlers"
"""Entry point group of handlers; the name is the node type, the object a handler or a class whose instances are."""


def known_types() -> frozenset[str]:
    """Every node type that has a meaning, of plug-ins too; none of them is loaded."""
    return BUILT_IN_TYPES | plugins(ENTRY_POINTS).keys()
