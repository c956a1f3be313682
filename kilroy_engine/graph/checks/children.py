"""Rules about nodes that run a child pipeline."""

from __future__ import annotations

from collections.abc import Iterator

from kilroy_engine.errors import ConditionSyntaxError
from kilroy_engine.graph.checks.subject import Subject, did_you_mean, error, warning
from kilroy_engine.graph.children import child_file, starts_child
from kilroy_engine.graph.conditions import parse_condition
from kilroy_engine.graph.diagnostics import Diagnostic
from kilroy_engine.graph.node_types import MANAGER, NESTED
from kilroy_engine.graph.vocabulary import MANAGER_ACTIONS


def child_pipeline_required(subject: Subject) -> Iterator[Diagnostic]:
    """Kilroy: a node that starts a child pipeline names the child's file."""
    for node in subject.nodes_of(MANAGER, NESTED):
        if not starts_child(node) or child_file(subject.graph, node) is not None:
            continue
        if node.type == NESTED:
            message, fix = f"node '{node.id}' names no child pipeline", 'add dot_file="child.dot"'
        else:
            message = f"the manager '{node.id}' is to start a child pipeline and names none"
            fix = 'add stack.child_dotfile="child.dot", or stack.child_autostart=false where somebody else starts it'
        yield error("child_pipeline_required").on_node(node, message, fix=fix)


def manager_stop_condition(subject: Subject) -> Iterator[Diagnostic]:
    """Spec 10: ``manager.stop_condition`` follows the grammar of edge conditions."""
    for node in subject.nodes_of(MANAGER):
        if not node.has("manager.stop_condition"):
            continue
        try:
            parse_condition(node.text("manager.stop_condition"))
        except ConditionSyntaxError as problem:
            yield error("manager_stop_condition").on_node(
                node,
                f"node '{node.id}': manager.stop_condition, column {problem.column}: {problem.message}",
                attribute=node.attributes["manager.stop_condition"],
                fix=problem.hint,
            )


def manager_actions(subject: Subject) -> Iterator[Diagnostic]:
    """Spec 4.11: ``manager.actions`` lists known actions, and a manager that steers has a prompt."""
    report = warning("manager_actions")
    for node in subject.nodes_of(MANAGER):
        attribute = node.attributes.get("manager.actions")
        if attribute is None:
            continue
        actions = [action.strip() for action in attribute.value.split(",") if action.strip()]
        for action in actions:
            if action not in MANAGER_ACTIONS:
                yield report.on_node(
                    node,
                    f"node '{node.id}': '{action[:60]}' in manager.actions is ignored",
                    attribute=attribute,
                    fix=did_you_mean(action, MANAGER_ACTIONS, otherwise=f"choose from {', '.join(MANAGER_ACTIONS)}"),
                )
        if "steer" in actions and not node.has("prompt"):
            yield report.on_node(
                node,
                f"node '{node.id}' has nothing to steer with: it has no prompt",
                attribute=attribute,
                fix='add prompt="what the child pipeline is to keep in mind"',
            )


RULES = (child_pipeline_required, manager_stop_condition, manager_actions)
