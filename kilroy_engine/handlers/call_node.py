"""Nodes that call a Prefect task or flow: what to call, with which parameters. The engine makes the call."""

from __future__ import annotations

from collections.abc import Mapping

from kilroy_engine.graph.callees import parameters_of, read_callee
from kilroy_engine.graph.checks.subject import did_you_mean
from kilroy_engine.handlers.base import CallPrefect, StageRequest
from kilroy_engine.rundir.files.artifacts import whole_value
from kilroy_engine.traversal.failure import FailureClass
from kilroy_engine.traversal.outcome import Json, Outcome, failure, success

CONTEXT_PREFIX = "context:"
"""``param.x="context:tool.output"`` passes the value of that context key. ``context:*`` passes the whole context, in which
large values stay references to their files."""
_EVERYTHING = "*"


def call_prefect(request: StageRequest, /) -> Outcome | CallPrefect:
    """Asks for the call that the node's ``ref`` and ``param.<name>`` attributes describe. A simulated run calls nothing."""
    node = request.node
    target = read_callee(node.text("ref"))
    if target is None:
        return failure(f"ref='{node.text('ref')}' names no {node.type}", failure_class=FailureClass.DETERMINISTIC)
    if request.simulate:
        return success(f"simulated: {target} was not called")
    parameters: dict[str, Json] = {}
    for name, text in parameters_of(node).items():
        if not takes_context(text):
            parameters[name] = text
            continue
        key = text.removeprefix(CONTEXT_PREFIX).strip()
        if key != _EVERYTHING and key not in request.context:
            return failure(_missing(name, key, request.context), failure_class=FailureClass.DETERMINISTIC)
        parameters[name] = dict(request.context) if key == _EVERYTHING else whole_value(request.context[key])
    return CallPrefect(node.type, target, parameters, request.timeout_s)


def takes_context(text: str) -> bool:
    """Whether a parameter's value comes from the context, so that it is only known at the visit."""
    return text.startswith(CONTEXT_PREFIX)


def _missing(name: str, key: str, context: Mapping[str, Json]) -> str:
    hint = did_you_mean(key, context, otherwise="no stage before it has set it")
    return f"parameter {name} takes the context value '{key}', and there is none; {hint}"
