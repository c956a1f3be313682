"""Child pipelines: which nodes run a child, and which file a node names (Spec 4.11; other implementations for ``folder``)."""

from __future__ import annotations

from kilroy_engine.graph.attributes import read_bool
from kilroy_engine.graph.model import Attribute, Graph, Node
from kilroy_engine.graph.node_types import MANAGER, NESTED

MAX_DEPTH = 8
"""How many levels of child pipelines may be below the first pipeline."""


def child_file(graph: Graph, node: Node) -> Attribute | None:
    """The attribute that names the file of the node's child pipeline; None where no attribute does.

    For a manager, the graph's attribute wins over the node's.
    """
    if node.type == NESTED:
        candidates = (node.attributes.get("dot_file"),)
    elif node.type == MANAGER:
        key = "stack.child_dotfile"
        candidates = (graph.attributes.get(key), node.attributes.get(key))
    else:
        return None
    return next((attribute for attribute in candidates if attribute is not None and attribute.value.strip()), None)


def starts_child(node: Node) -> bool:
    """Whether the engine starts the node's child pipeline. With ``stack.child_autostart=false`` somebody else starts it."""
    return node.type == NESTED or (node.type == MANAGER and read_bool(node.text("stack.child_autostart"), default=True))
