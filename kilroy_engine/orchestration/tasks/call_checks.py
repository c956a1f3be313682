"""Checks a pipeline's call nodes before the run starts: that each callee exists and takes the arguments."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import httpx

from kilroy_engine.errors import InvalidInput, InvalidPipeline
from kilroy_engine.execution.preparing.preparation import PreparedRun
from kilroy_engine.graph.callees import DeploymentCallee, ObjectCallee, parameters_of, read_callee
from kilroy_engine.graph.checks.calls import REF_RULE
from kilroy_engine.graph.checks.subject import error
from kilroy_engine.graph.checks.validation import located
from kilroy_engine.graph.diagnostics import Diagnostic
from kilroy_engine.graph.model import Graph, Node
from kilroy_engine.graph.node_types import CALL_TYPES
from kilroy_engine.graph.vocabulary import PARAMETER_PREFIX
from kilroy_engine.handlers.call_node import takes_context


def require_callable(prepared: PreparedRun, *, ask_server: bool = True) -> None:
    """Imports the tasks and flows that call nodes name, which runs the code of those modules, and checks their parameters.

    Looks deployments up on the server unless ``ask_server`` is false. A simulated run calls nothing and is not checked.

    Raises:
        InvalidPipeline: A callee cannot be called. Holds a diagnostic for each such node.
    """
    graph = prepared.graph
    found = () if prepared.settings.simulate else tuple(_findings(graph, ask_server=ask_server))
    if found:
        raise InvalidPipeline(diagnostics=(*prepared.diagnostics, *located(graph, found)))


def _findings(graph: Graph, *, ask_server: bool) -> Iterator[Diagnostic]:
    for node in graph.nodes.values():
        if node.type not in CALL_TYPES:
            continue
        try:
            _check_call(node, ask_server=ask_server)
        except InvalidInput as refusal:
            place = node.attributes.get(f"{PARAMETER_PREFIX}{refusal.name}") or node.attributes.get("ref")
            message = f"node '{node.id}' cannot call {node.text('ref').strip()}: {refusal}"
            yield error(REF_RULE).on_node(node, message, attribute=place)
        except httpx.HTTPError:
            continue  # the server is away now; the node's visit asks the server again


def _check_call(node: Node, *, ask_server: bool) -> None:
    from kilroy_engine.orchestration.tasks.arguments import (  # noqa: PLC0415 - only a pipeline with calls pays for Prefect
        check_names,
        schema_arguments,
        typed_arguments,
    )
    from kilroy_engine.orchestration.tasks.callee import find_callee, find_deployment  # noqa: PLC0415 - the same

    given = parameters_of(node)
    match read_callee(node.text("ref")):
        case ObjectCallee() as reference:
            function = find_callee(reference, node.type).fn
            check_names(function, given)
            typed_arguments(function, _without_context(given))
        case DeploymentCallee() as reference:
            if ask_server:
                deployment = find_deployment(reference)
                schema_arguments(deployment.parameter_openapi_schema or {}, given, defaults=deployment.parameters)
        case None:
            pass  # the rule prefect_ref has refused the node


def _without_context(given: Mapping[str, str]) -> dict[str, str]:
    return {name: text for name, text in given.items() if not takes_context(text)}
