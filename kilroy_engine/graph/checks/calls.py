"""Rules about nodes that call a Prefect task or flow: the attribute ``ref`` and the arguments."""

from __future__ import annotations

import re
from collections.abc import Iterator

from kilroy_engine.graph.callees import DeploymentCallee, read_callee
from kilroy_engine.graph.checks.subject import Subject, error
from kilroy_engine.graph.diagnostics import Diagnostic
from kilroy_engine.graph.node_types import CALL_TYPES
from kilroy_engine.graph.vocabulary import PARAMETER_PREFIX

REF_RULE = "prefect_ref"
"""Rule name of :func:`prefect_ref`. The check that loads the callee before a run starts reports under this name too."""

_SCRIPT = re.compile(r"(?P<path>[\w./-]+)\.py:(?P<name>\w+)\Z")


def prefect_ref(subject: Subject) -> Iterator[Diagnostic]:
    """A call node's ``ref`` names a callee in one of the two notations, and a task node does not name a deployment."""
    report = error(REF_RULE)
    for node in subject.nodes_of(*CALL_TYPES):
        kind = subject.types[node.id].removeprefix("prefect.")
        written, reference = node.attributes.get("ref"), read_callee(node.text("ref"))
        if not node.has("ref"):
            yield report.on_node(node, f"node '{node.id}' names no {kind} to call", attribute=written, fix=_how_to_name(kind))
        elif reference is None:
            message = f"node '{node.id}': ref='{node.text('ref')}' names no {kind}"
            yield report.on_node(node, message, attribute=written, fix=_rewritten(node.text("ref")) or _how_to_name(kind))
        elif kind == "task" and isinstance(reference, DeploymentCallee):
            message = f"node '{node.id}': ref='{reference}' is a deployment, and deployments run flows"
            yield report.on_node(node, message, attribute=written, fix='write type="prefect.flow"')


def prefect_parameter(subject: Subject) -> Iterator[Diagnostic]:
    """The part of an attribute's name after ``param.`` can be the name of a Python parameter."""
    for node in subject.nodes_of(*CALL_TYPES):
        for key, attribute in node.attributes.items():
            name = key.removeprefix(PARAMETER_PREFIX)
            if key.startswith(PARAMETER_PREFIX) and not name.isidentifier():
                yield error("prefect_parameter").on_node(
                    node,
                    f"node '{node.id}': '{key}' names no parameter: '{name}' is no Python name",
                    attribute=attribute,
                    fix="write param.<name of the parameter>; structured values are written as JSON",
                )


def _how_to_name(kind: str) -> str:
    by_module = f'ref="package.module:{kind}_name"'
    return f'write {by_module}, or ref="flow-name/deployment-name"' if kind == "flow" else f"write {by_module}"


def _rewritten(written: str) -> str:
    if script := _SCRIPT.match(written.strip()):
        module = script["path"].removeprefix("./").strip("/").replace("/", ".")
        return f'name the module, not its file: ref="{module}:{script["name"]}"'
    if re.fullmatch(r"\w+(\.\w+)+", written.strip()):
        module, _, name = written.strip().rpartition(".")
        return f'put a colon before the name: ref="{module}:{name}"'
    return ""


RULES = (prefect_ref, prefect_parameter)
