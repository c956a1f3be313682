"""Rules about the ways out of a stage: conditions, retry targets, goal gates, choices."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from kilroy_engine.errors import ConditionSyntaxError
from kilroy_engine.graph.checks.subject import Subject, did_you_mean, error, info, warning
from kilroy_engine.graph.conditions import Condition, Operator
from kilroy_engine.graph.diagnostics import Diagnostic
from kilroy_engine.graph.model import Attribute, Edge, Node
from kilroy_engine.graph.node_types import AGENT, CONCURRENT_SPLIT, EXIT, HUMAN, NODE_TYPES, PARALLEL, TOOL, Work
from kilroy_engine.graph.source import position_in_value
from kilroy_engine.graph.statuses import STATUS_ALIASES, Status, read_status

_TRANSIENT = "transient_infra"


def condition_syntax(subject: Subject) -> Iterator[Diagnostic]:
    """Spec 7.2: conditions parse. The diagnostic's place is the wrong character inside the condition."""
    for edge in subject.graph.edges:
        failure = subject.conditions.get(edge.index)
        if isinstance(failure, ConditionSyntaxError):
            place = position_in_value(subject.lines, edge.attributes["condition"], failure.column - 1)
            yield error("condition_syntax").at(
                place, f"edge {edge}: condition '{edge.condition}': {failure.message}", edge=str(edge), fix=failure.hint
            )


def outcome_alias(subject: Subject) -> Iterator[Diagnostic]:
    """A condition compares an outcome with another spelling of a status. Reported once for each word."""
    seen: set[str] = set()
    for edge in subject.graph.edges:
        condition = subject.condition_of(edge)
        for literal in condition.literals("outcome") if condition else ():
            status = read_status(literal)
            if status != literal and literal not in seen:
                seen.add(literal)
                known = status in tuple(Status) or literal in STATUS_ALIASES
                yield info("outcome_alias").on_edge(
                    edge,
                    f"the outcome '{literal}' is read as '{status}'",
                    attribute=edge.attributes["condition"],
                    fix=f"write outcome={status}" if known else f"outcomes are compared in lower case: outcome={status}",
                )


def all_conditional_edges(subject: Subject) -> Iterator[Diagnostic]:
    """Kilroy: if every edge of a node has a condition, an outcome for which none holds fails the run."""
    for node in subject.graph.nodes.values():
        edges = subject.graph.outgoing(node.id)
        conditions = [subject.condition_of(edge) for edge in edges]
        if not edges or subject.types[node.id] in (EXIT, PARALLEL) or not all(edge.condition for edge in edges):
            continue
        if all(subject.types[edge.target] == EXIT for edge in edges) or None in conditions:
            continue
        equal, differ = _compared([c for c in conditions if c])
        both = {("outcome", "success"), ("outcome", "fail")} <= equal
        if not equal & differ and not (both and subject.types[node.id] == TOOL):  # a tool has no third outcome
            example = ", as for the outcome partial_success" if both and ("outcome", "partial_success") not in equal else ""
            yield warning("all_conditional_edges").on_node(
                node,
                f"every edge that leaves node '{node.id}' has a condition: the run fails where none of them holds{example}",
                fix="add an edge without a condition for everything else",
            )


def _compared(conditions: list[Condition]) -> tuple[set[tuple[str, str]], set[tuple[str, str]]]:
    """The (key, literal) pairs that conditions of a single clause compare with ``=``, and those that they compare with ``!=``.

    For a pair in both sets, one of the two conditions always holds.
    """
    single = [condition.clauses[0] for condition in conditions if len(condition.clauses) == 1]
    equal = {(c.key, _literal(c.key, c.literal)) for c in single if c.operator is Operator.EQUALS}
    differ = {(c.key, _literal(c.key, c.literal)) for c in single if c.operator is Operator.DIFFERS}
    return equal, differ


def _literal(key: str, literal: str) -> str:
    return read_status(literal) if key == "outcome" else literal


def dead_conditional_edge(subject: Subject) -> Iterator[Diagnostic]:
    """The walk never takes an edge whose condition contradicts itself, or equals that of an edge that comes first."""
    report = warning("dead_conditional_edge")
    for node in subject.graph.nodes.values():
        taken: dict[frozenset[tuple[str, str, str]], Edge] = {}
        edges = sorted(subject.graph.outgoing(node.id), key=lambda edge: (-edge.weight, edge.target))
        for edge in edges:
            condition = subject.condition_of(edge)
            if condition is None or not condition.clauses:
                continue
            attribute = edge.attributes["condition"]
            if _contradicts_itself(condition):
                yield report.on_edge(
                    edge, f"the condition '{edge.condition}' can never hold", attribute=attribute, fix="correct it"
                )
            clauses = frozenset((c.key, str(c.operator), _literal(c.key, c.literal)) for c in condition.clauses)
            first = taken.setdefault(clauses, edge)
            if first.target != edge.target:
                yield report.on_edge(
                    edge,
                    f"this edge is never taken: {first} has the same condition and comes first",
                    attribute=attribute,
                    fix="make the conditions differ, or set weight to choose between them",
                )


def _contradicts_itself(condition: Condition) -> bool:
    demanded: dict[str, str] = {}
    for clause in condition.clauses:
        if clause.operator is Operator.EQUALS:
            value = _literal(clause.key, clause.literal)
            if demanded.setdefault(clause.key, value) != value:
                return True
    return any(
        clause.operator is Operator.DIFFERS and demanded.get(clause.key) == _literal(clause.key, clause.literal)
        for clause in condition.clauses
    )


def terminal_condition_edge(subject: Subject) -> Iterator[Diagnostic]:
    """Kilroy: an edge without a condition leads from a stage to the exit. If the stage fails, the run fails there."""
    for node in subject.nodes_of(EXIT):
        for edge in subject.graph.incoming(node.id):
            if not edge.condition and _does_work(subject.types[edge.source]):
                yield warning("terminal_condition_edge").on_edge(
                    edge,
                    f"'{edge.source}' leads to the exit without a condition; when it fails, the run fails",
                    fix='say so with condition="outcome=success", and lead failures elsewhere if they can be mended',
                )


def _does_work(type_name: str) -> bool:
    return type_name not in NODE_TYPES or NODE_TYPES[type_name].work is not Work.NONE


def fail_routed_to_exit(subject: Subject) -> Iterator[Diagnostic]:
    """An edge for the outcome ``fail`` leads to the exit. Then the run ends with success although a stage failed."""
    for node in subject.nodes_of(EXIT):
        for edge in subject.graph.incoming(node.id):
            condition = subject.condition_of(edge)
            if condition and any(
                c.key == "outcome" and c.operator is Operator.EQUALS and read_status(c.literal) == Status.FAIL
                for c in condition.clauses
            ):
                yield warning("fail_routed_to_exit").on_edge(
                    edge,
                    f"a failure of '{edge.source}' leads to the exit: the run then ends with success",
                    attribute=edge.attributes["condition"],
                    fix="remove the edge and the run fails; or set goal_gate=true on the stage that must succeed",
                )


def implicit_fan_out(subject: Subject) -> Iterator[Diagnostic]:
    """Several equal edges without a condition leave a node. The walk takes one; Kilroy would run all of them at once."""
    for node in subject.graph.nodes.values():
        if subject.types[node.id] in (PARALLEL, HUMAN, EXIT, CONCURRENT_SPLIT):
            continue
        plain = [edge for edge in subject.graph.outgoing(node.id) if not edge.condition and not edge.label]
        best = [edge for edge in plain if edge.weight == max(edge.weight for edge in plain)] if len(plain) > 1 else []
        if len({edge.target for edge in best}) > 1:
            chosen = min(edge.target for edge in best)
            yield info("implicit_fan_out").on_node(
                node,
                f"{len(best)} equal edges leave node '{node.id}' without a condition; only the one to '{chosen}' is taken",
                fix="to run all of them, put a node with shape=component in between; else add conditions, labels or weights",
            )


def retry_target_exists(subject: Subject) -> Iterator[Diagnostic]:
    """Spec 7.2: a retry target is an existing node. The walk skips a retry target that is an exit."""
    report = warning("retry_target_exists")
    for node in subject.graph.nodes.values():
        for attribute in _retry_attributes(node.attributes):
            if (problem := _bad_target(subject, attribute)) is not None:
                yield report.on_node(node, f"node '{node.id}': {problem[0]}", attribute=attribute, fix=problem[1])
    for attribute in _retry_attributes(subject.graph.attributes):
        if (problem := _bad_target(subject, attribute)) is not None:
            yield report.on_graph(f"graph: {problem[0]}", attribute=attribute, fix=problem[1])


def _retry_attributes(attributes: Mapping[str, Attribute]) -> Iterator[Attribute]:
    found = (attributes.get(key) for key in ("retry_target", "fallback_retry_target"))
    return (attribute for attribute in found if attribute is not None and attribute.value.strip())


def _bad_target(subject: Subject, attribute: Attribute) -> tuple[str, str] | None:
    target = attribute.value.strip()
    if target not in subject.graph.nodes:
        fix = did_you_mean(target, subject.graph.nodes, otherwise="name an existing node")
        return f"{attribute.key} '{target}' is no node of the pipeline", fix
    if subject.types[target] == EXIT:
        return f"{attribute.key} '{target}' is an exit, and is skipped", "name the stage that mends the failure"
    return None


def goal_gate_has_retry(subject: Subject) -> Iterator[Diagnostic]:
    """Spec 7.2: a goal gate has a retry target, on the node or on the graph."""
    graph_has_one = bool(subject.graph.text("retry_target").strip() or subject.graph.text("fallback_retry_target").strip())
    for node in subject.graph.nodes.values():
        if node.goal_gate and not node.retry_targets and not graph_has_one:
            yield warning("goal_gate_has_retry").on_node(
                node,
                f"the goal gate '{node.id}' has no retry_target: the run fails when it is not met",
                attribute=node.attributes["goal_gate"],
                fix="set retry_target to the stage that mends it",
            )


def loop_restart_failure_class_guard(subject: Subject) -> Iterator[Diagnostic]:
    """Kilroy: a run restarts only after failures of class ``transient_infra``, so a restart edge asks for this class."""
    for edge in subject.graph.edges:
        if not edge.loop_restart:
            continue
        condition = subject.condition_of(edge)
        clauses = condition.clauses if condition else ()
        guarded = any("failure_class" in c.key and c.operator is Operator.EQUALS and c.literal == _TRANSIENT for c in clauses)
        on_success = any(
            c.key == "outcome" and c.operator is Operator.EQUALS and read_status(c.literal) not in (Status.FAIL, Status.RETRY)
            for c in clauses
        )
        if not guarded and not on_success:
            yield warning("loop_restart_failure_class_guard").on_edge(
                edge,
                f"edge {edge} restarts the run after failures of any class",
                attribute=edge.attributes["loop_restart"],
                fix=f"add context.failure_class={_TRANSIENT} to its condition, and an edge for other failures",
            )


def human_default_choice(subject: Subject) -> Iterator[Diagnostic]:
    """``human.default_choice`` is one of the gate's choices: the target of an edge, its label, or the label's key."""
    for node in subject.nodes_of(HUMAN):
        wanted = node.text("human.default_choice").strip().casefold()
        edges = subject.graph.outgoing(node.id)
        if wanted and not any(_offers(edge, wanted) for edge in edges):
            choices = ", ".join(edge.label or edge.target for edge in edges)
            yield warning("human_default_choice").on_node(
                node,
                f"node '{node.id}': the default choice '{node.text('human.default_choice')}' is none of its choices",
                attribute=node.attributes["human.default_choice"],
                fix=f"name one of: {choices}" if choices else "lead edges out of the gate",
            )


def _offers(edge: Edge, wanted: str) -> bool:
    label = edge.label.strip().casefold()
    return wanted in (edge.target.casefold(), label) or label.startswith((f"[{wanted}]", f"{wanted})", f"{wanted} -", wanted))


def fidelity_thread(subject: Subject) -> Iterator[Diagnostic]:
    """An agent node's ``thread_id`` has an effect only with full fidelity (Spec 5.4)."""
    report = info("thread_id_requires_fidelity_full")
    default = subject.graph.text("default_fidelity") or subject.graph.text("context_fidelity_default")
    for node in subject.nodes_of(AGENT):
        if node.has("thread_id") and not _may_be_full(subject, node, default):
            yield report.on_node(
                node,
                f"the thread_id of node '{node.id}' has no effect without fidelity=full",
                attribute=node.attributes["thread_id"],
                fix="set fidelity=full on the node, or default_fidelity=full on the graph",
            )


def _may_be_full(subject: Subject, node: Node, default: str) -> bool:
    own = node.text("fidelity") or default
    return any((edge.text("fidelity") or own) == "full" for edge in subject.graph.incoming(node.id)) or own == "full"


RULES = (
    condition_syntax,
    outcome_alias,
    all_conditional_edges,
    dead_conditional_edge,
    terminal_condition_edge,
    fail_routed_to_exit,
    implicit_fan_out,
    retry_target_exists,
    goal_gate_has_retry,
    loop_restart_failure_class_guard,
    human_default_choice,
    fidelity_thread,
)
