"""Reads Kilroy's loops from a graph: a loop is one node that repeats itself, or the nodes between a begin and an end."""

from __future__ import annotations

from dataclasses import dataclass

from kilroy_engine.graph.attributes import read_int
from kilroy_engine.graph.model import Graph, Node
from kilroy_engine.graph.node_types import LOOP_BEGIN, LOOP_END

CONDITIONS = ("loop_count", "loop_until_file", "loop_until_file_contains", "loop_while_outcome")
"""Attributes that say when a loop is over. ``loop_max`` only limits a loop that has one of these conditions."""


@dataclass(frozen=True, slots=True)
class Loop:
    """A loop with at least one condition.

    An iteration begins at the node ``begin`` and ends at the node ``end``. For a node that repeats itself both are the same.
    ``count`` and ``maximum`` are 0 where they are not written. ``until_contains`` is a path and the text in that file that ends
    the loop; both are empty where they are not written. Paths are relative to the work folder, or absolute.
    """

    id: str
    begin: str
    end: str
    count: int = 0
    maximum: int = 0
    until_file: str = ""
    until_contains: tuple[str, str] = ("", "")
    while_failing: bool = False

    @property
    def counter(self) -> str:
        """The context key that holds the number of iterations so far."""
        return f"loop.{self.id}.iteration"

    @property
    def bounded(self) -> bool:
        """Whether a number of iterations limits the loop."""
        return self.count > 0 or self.maximum > 0


def loop_at(graph: Graph, node: Node) -> Loop | None:
    """The loop whose iterations end at ``node``; None where no loop ends there or the loop has no condition (Kilroy)."""
    if node.type == LOOP_BEGIN or node.is_start or node.is_exit or not has_condition(node):
        return None
    begin = begin_of(graph, node) if node.type == LOOP_END else node
    if begin is None:
        return None
    return Loop(
        id=loop_id(node),
        begin=begin.id,
        end=node.id,
        count=_whole(node, "loop_count"),
        maximum=_whole(node, "loop_max"),
        until_file=node.text("loop_until_file").strip(),
        until_contains=read_file_contains(node.text("loop_until_file_contains")) or ("", ""),
        while_failing=_while_failing(node),
    )


def loop_id(node: Node) -> str:
    """The loop's id: the attribute ``loop_id``, else the node's id. A loop's begin and end have the same id."""
    return node.text("loop_id").strip() or node.id


def begin_of(graph: Graph, end: Node) -> Node | None:
    """The node that begins the loop that ends at ``end``: the first in the file with the same loop id. None without one."""
    wanted = loop_id(end)
    return next((node for node in graph.nodes.values() if node.type == LOOP_BEGIN and loop_id(node) == wanted), None)


def has_condition(node: Node) -> bool:
    """Whether at least one of ``node``'s loop conditions is written and can be read."""
    return (
        _whole(node, "loop_count") > 0
        or node.has("loop_until_file")
        or read_file_contains(node.text("loop_until_file_contains")) is not None
        or _while_failing(node)
    )


def read_file_contains(text: str) -> tuple[str, str] | None:
    """The path and the text of ``path:text``, split at the first colon; None where one of the two is missing."""
    path, _, wanted = (part.strip() for part in text.partition(":"))
    return (path, wanted) if path and wanted else None


def _while_failing(node: Node) -> bool:
    return node.text("loop_while_outcome").strip().lower() == "fail"


def _whole(node: Node, key: str) -> int:
    return max(0, read_int(node.text(key), default=0))
