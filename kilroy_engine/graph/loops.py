"""Kilroy's loop primitive as it is written: one node that repeats itself, or the nodes between a begin and an end."""

from __future__ import annotations

from dataclasses import dataclass

from kilroy_engine.graph.attributes import read_int
from kilroy_engine.graph.model import Graph, Node
from kilroy_engine.graph.node_types import LOOP_BEGIN, LOOP_END

CONDITIONS = ("loop_count", "loop_until_file", "loop_until_file_contains", "loop_while_outcome")
"""Attributes that say when a loop is over; ``loop_max`` only limits one that has such a condition."""


@dataclass(frozen=True, slots=True)
class Loop:
    """A loop that repeats. ``begin`` is the node that it jumps back to after ``end``, the same for a single node.

    ``count`` and ``maximum`` are 0 where they are absent. ``until_contains`` is a path and the text that its file holds at the
    end, both empty where they are absent. Paths are relative to the work folder, or absolute.
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
        """Context key of the number of iterations so far."""
        return f"loop.{self.id}.iteration"

    @property
    def bounded(self) -> bool:
        """Whether a number ends it in any case."""
        return self.count > 0 or self.maximum > 0


def loop_at(graph: Graph, node: Node) -> Loop | None:
    """The loop whose iterations end at ``node``; None where there is none or nothing says when it is over (Kilroy)."""
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
    """What pairs an end with its begin, and names the counter: ``loop_id``, else the node's id."""
    return node.text("loop_id").strip() or node.id


def begin_of(graph: Graph, end: Node) -> Node | None:
    """The begin that belongs to a loop's end, the first in the file."""
    wanted = loop_id(end)
    return next((node for node in graph.nodes.values() if node.type == LOOP_BEGIN and loop_id(node) == wanted), None)


def has_condition(node: Node) -> bool:
    """Whether something that can be read says when a loop at ``node`` is over."""
    return (
        _whole(node, "loop_count") > 0
        or node.has("loop_until_file")
        or read_file_contains(node.text("loop_until_file_contains")) is not None
        or _while_failing(node)
    )


def read_file_contains(text: str) -> tuple[str, str] | None:
    """Path and text of ``path:text``, split at the first colon; None where one of them is missing."""
    path, _, wanted = (part.strip() for part in text.partition(":"))
    return (path, wanted) if path and wanted else None


def _while_failing(node: Node) -> bool:
    return node.text("loop_while_outcome").strip().lower() == "fail"


def _whole(node: Node, key: str) -> int:
    return max(0, read_int(node.text(key), default=0))
