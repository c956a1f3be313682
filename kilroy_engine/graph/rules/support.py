"""What this version does not run yet. One table: a line goes when its support comes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from kilroy_engine.graph.diagnostics import Diagnostic
from kilroy_engine.graph.rules.subject import Subject, error

NOT_SUPPORTED_YET: Mapping[str, str] = {
    "loop.begin": "write the loop as edges: a condition leads back, another one on",
    "loop.end": "write the loop as edges: a condition leads back, another one on",
    "loop_*": "write the loop as edges: a condition leads back, another one on",
    "concurrent.split": "rewrite it with shape=component",
    "concurrent.join": "rewrite it with shape=tripleoctagon, after a shape=component",
    "loop_restart": "lead the edge back without loop_restart; max_node_visits limits the rounds",
}
"""Feature to what to do instead. Handler types by name, ``loop_*`` for Kilroy's loop attributes, ``loop_restart`` for edges."""

_LOOP_ATTRIBUTES = ("loop_count", "loop_max", "loop_until_file", "loop_until_file_contains", "loop_while_outcome")


def not_supported_yet(subject: Subject) -> Iterator[Diagnostic]:
    """Features of the table that the pipeline uses."""
    report = error("not_supported_yet")
    missing = {feature: fix for feature, fix in NOT_SUPPORTED_YET.items() if feature not in subject.supported}
    for node in subject.graph.nodes.values():
        type_name = subject.types[node.id]
        if type_name in missing:
            yield report.on_node(
                node, f"node '{node.id}': this version does not run {type_name} nodes yet", fix=missing[type_name]
            )
        attribute = next((node.attributes[key] for key in _LOOP_ATTRIBUTES if key in node.attributes), None)
        if attribute is not None and "loop_*" in missing:
            yield report.on_node(
                node,
                f"node '{node.id}': this version does not read {attribute.key} yet",
                attribute=attribute,
                fix=missing["loop_*"],
            )
    for edge in subject.graph.edges:
        if edge.loop_restart and "loop_restart" in missing:
            yield report.on_edge(
                edge,
                f"edge {edge}: this version does not restart runs by loop_restart yet",
                attribute=edge.attributes["loop_restart"],
                fix=missing["loop_restart"],
            )


RULES = (not_supported_yet,)
