"""Rules about node types that the engine reads and refuses for good."""

from __future__ import annotations

from collections.abc import Iterator

from kilroy_engine.graph.checks.subject import Subject, error
from kilroy_engine.graph.diagnostics import Diagnostic
from kilroy_engine.graph.model import Node
from kilroy_engine.graph.node_types import CONCURRENT_JOIN, CONCURRENT_SPLIT

_CONCURRENT = {CONCURRENT_SPLIT: "component", CONCURRENT_JOIN: "tripleoctagon"}


def concurrent_not_supported(subject: Subject) -> Iterator[Diagnostic]:
    """Kilroy's concurrent regions are refused: their stages share one work folder without commits and disturb each other."""
    for node in subject.nodes_of(*_CONCURRENT):
        type_name = subject.types[node.id]
        yield error("concurrent_not_supported").on_node(
            node,
            f"node '{node.id}': {type_name} is not supported: its branches would share one work folder, without commits; "
            "a parallel fan-out gives each branch its own",
            attribute=node.attributes.get("type") or node.attributes.get("shape"),
            fix=f"rewrite the region as a fan-out: {_rewritten(subject, node)}",
        )


def _rewritten(subject: Subject, node: Node) -> str:
    """The region's two ends as a fan-out and a fan-in, in DOT. The other end has its own id if the pipeline has only one."""
    ends = {kind: [other.id for other in subject.nodes_of(kind)] for kind in _CONCURRENT}
    names = [node.id if subject.types[node.id] == kind else _only(found, kind) for kind, found in ends.items()]
    return "; ".join(f"{name} [shape={shape}]" for name, shape in zip(names, _CONCURRENT.values(), strict=True))


def _only(node_ids: list[str], kind: str) -> str:
    return node_ids[0] if len(node_ids) == 1 else kind.removeprefix("concurrent.")


RULES = (concurrent_not_supported,)
