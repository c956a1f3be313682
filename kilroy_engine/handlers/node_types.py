"""Names the known node types. Imports no handler, so that commands that only look at a pipeline start fast."""

from __future__ import annotations

from kilroy_engine.graph.node_types import BUILT_IN_TYPES
from kilroy_engine.plugins import plugins

ENTRY_POINTS = "kilroy_engine.handlers"
"""Entry point group of handlers. The entry's name is the node type; its object is a handler, or a class that makes one."""


def known_types() -> frozenset[str]:
    """Every node type with a handler, those of plug-ins included. Loads no plug-in."""
    return BUILT_IN_TYPES | plugins(ENTRY_POINTS).keys()
