"""Models of a higher rank for a stage that keeps failing in the same way (Kilroy: model escalation)."""

from __future__ import annotations

from dataclasses import dataclass, replace

from kilroy_engine.graph.attributes import read_int
from kilroy_engine.graph.model import Attribute, Graph, Node
from kilroy_engine.graph.node_types import TOOL
from kilroy_engine.traversal.failure import FailureClass

DEFAULT_RETRIES_BEFORE = 2
_CLASSES = frozenset({FailureClass.BUDGET_EXHAUSTED, FailureClass.COMPILATION_LOOP})


@dataclass(frozen=True, slots=True)
class Escalation:
    """Where the attempts at a node stand in its ``escalation_models``. ``index`` counts the models that were gone over to,
    ``failed`` the retries since. Begin with ``Escalation()``."""

    index: int = 0
    failed: int = 0

    def after(self, graph: Graph, node: Node, failure_class: str) -> Escalation:
        """Where they stand after an attempt that failed with ``failure_class`` and is followed by another one.

        After more than ``retries_before_escalation`` failures (of the graph; 2) of a class that a better model may mend, the
        next model of the list comes.
        """
        if node.type == TOOL or failure_class not in _CLASSES or self.index >= len(models(node)):
            return self
        before = read_int(graph.text("retries_before_escalation"), default=DEFAULT_RETRIES_BEFORE)
        failed = self.failed + 1
        return Escalation(self.index + 1) if failed > max(0, before) else replace(self, failed=failed)

    def applied(self, node: Node) -> Node:
        """The node as the next attempt sees it."""
        if self.index == 0:
            return node
        provider, model = models(node)[self.index - 1]
        changed = {"llm_provider": provider, "llm_model": model}
        attributes = {name: Attribute(name, value, node.position, node.position) for name, value in changed.items()}
        return replace(node, attributes={**node.attributes, **attributes})


def models(node: Node) -> tuple[tuple[str, str], ...]:
    """``escalation_models`` of the node, ``provider:model, ...``; an entry that is none is left out, and linted."""
    entries = (entry.partition(":") for entry in node.text("escalation_models").split(","))
    return tuple(
        (before.strip(), after.strip()) for before, colon, after in entries if colon and before.strip() and after.strip()
    )
