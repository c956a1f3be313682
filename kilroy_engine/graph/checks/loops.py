"""Rules about Kilroy's loops: their begins and ends, and their conditions."""

from __future__ import annotations

from collections.abc import Iterator

from kilroy_engine.graph.checks.subject import Subject, did_you_mean, error, warning
from kilroy_engine.graph.diagnostics import Diagnostic
from kilroy_engine.graph.loops import CONDITIONS, has_condition, loop_id, read_file_contains
from kilroy_engine.graph.model import Node
from kilroy_engine.graph.node_types import EXIT, LOOP_BEGIN, LOOP_END, START

_READ_AT_AN_END = (*CONDITIONS, "loop_max")


def loop_pair(subject: Subject) -> Iterator[Diagnostic]:
    """Each loop has a ``loop_id`` of its own, and each end has a begin with the same ``loop_id``."""
    report = error("loop_pair")
    begins: dict[str, Node] = {}
    for node in subject.nodes_of(LOOP_BEGIN):
        first = begins.setdefault(loop_id(node), node)
        if first is not node:
            yield report.on_node(
                node,
                f"the loops that begin at '{first.id}' and at '{node.id}' are both '{loop_id(node)}'",
                attribute=node.attributes.get("loop_id"),
                fix="give each loop a loop_id of its own, and its end the same one",
            )
    for node in subject.nodes_of(LOOP_END):
        if loop_id(node) not in begins:
            otherwise = f'add a node with shape=trapezium and loop_id="{loop_id(node)}"'
            yield report.on_node(
                node,
                f"the loop '{loop_id(node)}' that ends at '{node.id}' begins nowhere",
                attribute=node.attributes.get("loop_id"),
                fix=did_you_mean(loop_id(node), begins, otherwise=otherwise),
            )


def loop_begin_without_end(subject: Subject) -> Iterator[Diagnostic]:
    """Kilroy: the walk passes a begin without an end only once. A loop's conditions are read at its end, not at its begin."""
    report = warning("loop_begin_without_end")
    ends = {loop_id(node): node for node in subject.nodes_of(LOOP_END)}
    for node in subject.nodes_of(LOOP_BEGIN):
        end = ends.get(loop_id(node))
        if end is None:
            fix = f'end it with a node that has shape=invtrapezium and loop_id="{loop_id(node)}"'
            yield report.on_node(node, f"nothing leads back to '{node.id}': the loop '{loop_id(node)}' has no end", fix=fix)
            continue
        for key in _READ_AT_AN_END:
            if node.has(key) and node.text(key).strip() != end.text(key).strip():
                yield report.on_node(
                    node,
                    f"node '{node.id}': {key} has no effect at the begin of a loop",
                    attribute=node.attributes[key],
                    fix=f"set it on '{end.id}', where the loop ends",
                )


def loop_value(subject: Subject) -> Iterator[Diagnostic]:
    """A loop condition that cannot be read counts as not written. The rule ``attribute_value`` checks the numbers."""
    report = warning("loop_value")
    for node in subject.graph.nodes.values():
        contains, outcome = (node.text(key).strip() for key in ("loop_until_file_contains", "loop_while_outcome"))
        if contains and read_file_contains(contains) is None:
            yield report.on_node(
                node,
                f"node '{node.id}': loop_until_file_contains='{contains[:60]}' is ignored: it takes a path, a colon and a text",
                attribute=node.attributes["loop_until_file_contains"],
                fix='write it as "path:text", such as "review.md:APPROVED"',
            )
        if outcome and outcome.lower() != "fail":
            yield report.on_node(
                node,
                f"node '{node.id}': loop_while_outcome='{outcome[:60]}' is ignored: it takes fail",
                attribute=node.attributes["loop_while_outcome"],
                fix="write loop_while_outcome=fail: the loop is over once the stage succeeds",
            )


def loop_without_condition(subject: Subject) -> Iterator[Diagnostic]:
    """Kilroy: ``loop_max`` only limits a loop that has a condition. A loop without a condition never repeats."""
    report = warning("loop_without_condition")
    conditions = ", ".join(CONDITIONS)
    for node in subject.graph.nodes.values():
        kind = subject.types[node.id]
        if kind in (LOOP_BEGIN, START, EXIT) or has_condition(node):
            continue
        if node.has("loop_max"):
            yield report.on_node(
                node,
                f"node '{node.id}': loop_max alone repeats nothing",
                attribute=node.attributes["loop_max"],
                fix=f"say when the loop is over: one of {conditions}",
            )
        elif kind == LOOP_END:
            yield report.on_node(
                node, f"node '{node.id}' ends a loop that never repeats", fix=f"say when it is over: one of {conditions}"
            )


def loop_never_succeeds(subject: Subject) -> Iterator[Diagnostic]:
    """Kilroy: reaching ``loop_max`` fails the run, even in the last iteration that ``loop_count`` asks for."""
    for node in subject.graph.nodes.values():
        count, limit = (node.text(key).strip() for key in ("loop_count", "loop_max"))
        if count.isdecimal() and limit.isdecimal() and 0 < int(limit) <= int(count):
            yield warning("loop_never_succeeds").on_node(
                node,
                f"node '{node.id}': iteration {limit} reaches loop_max and fails the run before loop_count={count} ends it",
                attribute=node.attributes["loop_max"],
                fix=f"remove loop_max: loop_count is limit enough; or set it to {int(count) + 1} or more",
            )


def loop_on_a_marker(subject: Subject) -> Iterator[Diagnostic]:
    """A start or exit node cannot repeat: the run is over at an exit, and no edge leads back to the start."""
    for node in subject.nodes_of(START, EXIT):
        key = next((key for key in _READ_AT_AN_END if node.has(key)), None)
        if key is not None:
            yield warning("loop_on_a_marker").on_node(
                node,
                f"node '{node.id}': {key} has no effect on the {subject.types[node.id]} of the pipeline",
                attribute=node.attributes[key],
                fix="set it on the stage that is to be repeated",
            )


RULES = (loop_pair, loop_begin_without_end, loop_value, loop_without_condition, loop_never_succeeds, loop_on_a_marker)
