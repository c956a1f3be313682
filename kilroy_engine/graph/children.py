"""Child pipelines: which nodes run one, and which file they name (Spec 4.11; ``folder`` as other implementations have it)."""

from __future__ import annotations

from kilroy_engine.graph.attributes import read_bool
from kilroy_engine.graph.model import Attribute, Graph, Node
from kilroy_engine.graph.node_types import MANAGER, NESTED

MAX_DEPTH = 8
"""How many pipelines may be nested in each other below the first one."""


def child_file(graph: Graph, node: Node) -> Attribute | None:
    """The attribute that names the node's child pipeline: of a manager the graph's before its own. None where none does."""
    if node.type == NESTED:
        candidates = (node.attributes.get("dot_file"),)
    elif node.type == MANAGER:
        key = "stack.child_dotfile"
        candidates = (graph.attributes.get(key), node.attributes.get(key))
    else:
        return None
    return next((attribute for attribute in candidates if attribute is not None and attribute.value.strip()), None)


def starts_child(node: Node) -> bool:
    """Whether the engine starts the child, rather than somebody else (``stack.child_autostart``)."""
    return node.type == NESTED or (node.type == MANAGER and read_bool(node.text("stack.child_autostart"), default=True))
