"""Questions about the nodes and edges of a graph: reachable nodes, loops, joins of branches. Without recursion."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from kilroy_engine.graph.model import Graph, Node
from kilroy_engine.graph.node_types import FAN_IN


@dataclass(frozen=True, slots=True)
class Join:
    """The node where the branches of a fan-out meet. ``merges`` is true for a fan-in, which picks a winning branch."""

    node_id: str
    merges: bool


def successors(graph: Graph, *, jumps: bool = False) -> Mapping[str, tuple[str, ...]]:
    """Node id -> targets of the node's edges. With ``jumps``, the node's retry targets follow, as the walk may jump to them."""
    targets = {node_id: tuple(edge.target for edge in graph.outgoing(node_id)) for node_id in graph.nodes}
    if not jumps:
        return targets
    for node in graph.nodes.values():
        targets[node.id] += tuple(target for target in node.retry_targets if target in graph.nodes)
    return targets


def graph_retry_targets(graph: Graph) -> tuple[str, ...]:
    """The graph's own ``retry_target`` and ``fallback_retry_target`` that exist. Goal gates may jump there (Spec 3.4)."""
    names = (graph.text("retry_target").strip(), graph.text("fallback_retry_target").strip())
    return tuple(name for name in names if name in graph.nodes)


def distances(targets: Mapping[str, Sequence[str]], sources: Iterable[str]) -> dict[str, int]:
    """The smallest number of edges from any of ``sources`` to each node that can be reached. The sources have 0."""
    found = dict.fromkeys(sources, 0)
    queue = deque(found)
    while queue:
        node_id = queue.popleft()
        for target in targets.get(node_id, ()):
            if target not in found:
                found[target] = found[node_id] + 1
                queue.append(target)
    return found


def cycles(graph: Graph) -> tuple[frozenset[str], ...]:
    """The loops of the graph as sets of node ids: strongly connected components of more than one node, and self loops.

    The loops are in the order of their first nodes in the file. This is Tarjan's algorithm with an explicit stack.
    """
    targets = successors(graph)
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    path: list[str] = []
    on_path: set[str] = set()
    found: list[frozenset[str]] = []

    def open_node(node_id: str) -> tuple[str, Iterator[str]]:
        index[node_id] = low[node_id] = len(index)
        path.append(node_id)
        on_path.add(node_id)
        return node_id, iter(targets[node_id])

    def close_node(node_id: str) -> None:
        if low[node_id] != index[node_id]:
            return
        component: set[str] = set()
        while node_id not in component:
            component.add(path.pop())
        on_path.difference_update(component)
        if len(component) > 1 or node_id in targets[node_id]:
            found.append(frozenset(component))

    for root in graph.nodes:
        work = [] if root in index else [open_node(root)]
        while work:
            node_id, remaining = work[-1]
            target = next(remaining, None)
            if target is None:
                work.pop()
                close_node(node_id)
                if work:
                    low[work[-1][0]] = min(low[work[-1][0]], low[node_id])
            elif target not in index:
                work.append(open_node(target))
            elif target in on_path:
                low[node_id] = min(low[node_id], index[target])
    order = {node_id: at for at, node_id in enumerate(graph.nodes)}
    return tuple(sorted(found, key=lambda component: min(order[node_id] for node_id in component)))


def nearest_join(graph: Graph, node_id: str) -> Join | None:
    """The node where all branches of the fan-out ``node_id`` meet, or None where they never meet.

    The join is the nearest ``parallel.fan_in`` that all branches reach. A branch may begin with the fan-in. Without such a
    fan-in, the join is the nearest other node that all branches reach and no branch begins with. Of several nodes the nearest
    is the one whose longest way is shortest, then the one with the smallest sum of ways, then the lower id (Kilroy's rule).
    The fan-out is never its own join.
    """
    beginnings = tuple(dict.fromkeys(edge.target for edge in graph.outgoing(node_id)))
    if not beginnings:
        return None
    targets = dict(successors(graph))
    targets[node_id] = ()  # a way back through the fan-out belongs to the next visit, not to the branch
    ways = [distances(targets, [beginning]) for beginning in beginnings]
    common = set(ways[0]).intersection(*ways[1:]) - {node_id}

    def nearest(accepts: Callable[[Node], bool]) -> str | None:
        candidates = [other for other in common if accepts(graph.nodes[other])]
        return min(candidates, key=lambda o: (max(w[o] for w in ways), sum(w[o] for w in ways), o), default=None)

    if (fan_in := nearest(lambda node: node.type == FAN_IN)) is not None:
        return Join(fan_in, merges=True)
    ordinary = nearest(lambda node: node.id not in beginnings)
    return None if ordinary is None else Join(ordinary, merges=False)
