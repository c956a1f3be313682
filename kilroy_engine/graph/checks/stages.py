"""Rules about the things that a stage needs for its work: prompts, commands, branches, providers."""

from __future__ import annotations

import re
from collections.abc import Iterator

from kilroy_engine.graph.analysis import nearest_join
from kilroy_engine.graph.checks.subject import Subject, error, warning
from kilroy_engine.graph.conditions import Operator
from kilroy_engine.graph.diagnostics import Diagnostic
from kilroy_engine.graph.model import Node
from kilroy_engine.graph.node_types import AGENT, CONDITIONAL, PARALLEL, TOOL
from kilroy_engine.graph.statuses import Status, read_status

_FILE_REFERENCE = re.compile(r"@[\w./-]+\.\w+\s*\Z")
_VARIABLE = re.compile(r"(?<![\\$])\$(?:\{)?(goal\b|input\.([A-Za-z_][A-Za-z0-9_.-]*))")
_MASKING_PIPE = re.compile(r"(?<!\|)\|(?!\|)\s*(?:tee|tail|head|cat)\b[^|;&\n]*\Z")
_ALWAYS_TRUE = re.compile(r"(?:\|\||;|\n)\s*(?:true|:|exit 0)\s*;?\s*\Z")


def prompt_on_llm_nodes(subject: Subject) -> Iterator[Diagnostic]:
    """Spec 7.2: an agent node has a prompt, or at least a label."""
    for node in subject.nodes_of(AGENT):
        if not any(node.has(key) for key in ("prompt", "prompt_file", "label")) and node.declared:
            yield warning("prompt_on_llm_nodes").on_node(
                node, f"node '{node.id}' has no prompt; the agent is told its id only", fix='add prompt="…"'
            )


def prompt_on_conditional_node(subject: Subject) -> Iterator[Diagnostic]:
    """Kilroy: nothing reads the prompt of a conditional node."""
    for node in subject.nodes_of(CONDITIONAL):
        if node.has("prompt"):
            yield warning("prompt_on_conditional_node").on_node(
                node,
                f"node '{node.id}' only routes: its prompt is never read",
                attribute=node.attributes["prompt"],
                fix="use shape=box for an agent that decides, and route after it",
            )


def prompt_file_conflict(subject: Subject) -> Iterator[Diagnostic]:
    """Kilroy: a node has either ``prompt`` or ``prompt_file``."""
    for node in subject.graph.nodes.values():
        if node.has("prompt_file") and node.has("prompt"):
            yield error("prompt_file_conflict").on_node(
                node,
                f"node '{node.id}': prompt_file and prompt are mutually exclusive",
                attribute=node.attributes["prompt_file"],
                fix="keep one of them",
            )


def unresolved_file_ref(subject: Subject) -> Iterator[Diagnostic]:
    """The prompt ``@file``, which other engines read from the file, goes to the agent as written."""
    for node in subject.nodes_of(AGENT):
        if _FILE_REFERENCE.match(node.prompt.strip()):
            yield warning("unresolved_file_ref").on_node(
                node,
                f"node '{node.id}': the prompt '{node.prompt.strip()[:60]}' is not read from a file; it is sent as it is",
                attribute=node.attributes["prompt"],
                fix=f'write prompt_file="{node.prompt.strip()[1:61]}"',
            )


def tool_command_required(subject: Subject) -> Iterator[Diagnostic]:
    """Kilroy: a tool node has a ``tool_command``."""
    for node in subject.nodes_of(TOOL):
        if node.has("tool_command"):
            continue
        other = next((key for key in ("command", "cmd", "run") if node.has(key)), None)
        fix = f"rename the attribute '{other}' to tool_command" if other else 'add tool_command="…"'
        yield error("tool_command_required").on_node(node, f"the tool node '{node.id}' has no tool_command", fix=fix)


def tool_command_abs_path(subject: Subject) -> Iterator[Diagnostic]:
    """Kilroy: a command that changes to an absolute folder leaves the work folder and does not see the run's files."""
    for node in subject.nodes_of(TOOL):
        if re.search(r"\bcd\s+/", node.tool_command):
            yield warning("tool_command_abs_path").on_node(
                node,
                f"node '{node.id}' changes to an absolute folder, out of the run's place of work",
                attribute=node.attributes["tool_command"],
                fix="use paths relative to where the command starts",
            )


def variable_in_tool_command(subject: Subject) -> Iterator[Diagnostic]:
    """Variables in a tool command are not replaced, so that no goal or input becomes code. The environment has the values."""
    for node in subject.nodes_of(TOOL):
        for match in _VARIABLE.finditer(node.tool_command):
            name = match[1]
            if re.search(
                rf"\b{re.escape(name)}=|\bfor {re.escape(name)}\b|\bread [^;\n]*\b{re.escape(name)}\b", node.tool_command
            ):
                continue  # the command sets this shell variable itself
            key = match[2]
            variable = (
                "KILROY_GOAL" if key is None else "KILROY_INPUT_" + re.sub(r"[^A-Za-z0-9]", "_", key.rstrip(".-")).upper()
            )
            yield warning("variable_in_tool_command").on_node(
                node,
                f"node '{node.id}': ${name} in a tool_command is not replaced",
                attribute=node.attributes["tool_command"],
                fix=f'write "${variable}"',
            )
            break


def tool_command_exit_code(subject: Subject) -> Iterator[Diagnostic]:
    """A command that hides its exit code never fails, although the pipeline has a way for its failure."""
    for node in subject.nodes_of(TOOL):
        command = node.tool_command.strip()
        if not _expects_failure(subject, node):
            continue
        if _ALWAYS_TRUE.search(command):
            problem, fix = "always succeeds", "remove what follows the last command that may fail"
        elif _MASKING_PIPE.search(command) and "pipefail" not in command and "PIPESTATUS" not in command:
            problem, fix = "succeeds whenever the last command of the pipe does", "begin it with: set -o pipefail;"
        else:
            continue
        yield warning("tool_command_exit_code").on_node(
            node,
            f"node '{node.id}' {problem}, but its edges expect that it may fail",
            attribute=node.attributes["tool_command"],
            fix=fix,
        )


def _expects_failure(subject: Subject, node: Node) -> bool:
    if node.max_retries or node.retry_targets or node.goal_gate:
        return True
    conditions = (subject.condition_of(edge) for edge in subject.graph.outgoing(node.id))
    return any(
        clause.key == "outcome" and clause.operator is Operator.EQUALS and read_status(clause.literal) == Status.FAIL
        for condition in conditions
        if condition
        for clause in condition.clauses
    )


def parallel_has_join(subject: Subject) -> Iterator[Diagnostic]:
    """The branches of a fan-out meet at one node, which should be a fan-in."""
    for node in subject.nodes_of(PARALLEL):
        join = nearest_join(subject.graph, node.id)
        if join is None:
            yield error("parallel_has_join").on_node(
                node,
                f"the branches of '{node.id}' never meet"
                if subject.graph.outgoing(node.id)
                else f"'{node.id}' has no branches",
                fix="lead every branch to one node with shape=tripleoctagon",
            )
        elif not join.merges:
            yield warning("parallel_has_join").on_node(
                node,
                f"the branches of '{node.id}' meet at '{join.node_id}', which is no fan-in: no branch's work is merged",
                fix="put a node with shape=tripleoctagon before it",
            )


def llm_provider_required(subject: Subject) -> Iterator[Diagnostic]:
    """Kilroy: without a default agent, every agent node has an ``llm_provider``."""
    if subject.default_agent:
        return
    for node in subject.nodes_of(AGENT):
        if not node.has("llm_provider"):
            yield error("llm_provider_required").on_node(
                node,
                f"node '{node.id}' has no llm_provider, and no default agent is set",
                fix="set it on the node, on the graph or in the model_stylesheet; or name a default agent for the run",
            )


RULES = (
    prompt_on_llm_nodes,
    prompt_on_conditional_node,
    prompt_file_conflict,
    unresolved_file_ref,
    tool_command_required,
    tool_command_abs_path,
    variable_in_tool_command,
    tool_command_exit_code,
    parallel_has_join,
    llm_provider_required,
)
