"""Finds what a call node calls: a Prefect task or flow in a Python module, or a deployment on the server."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from importlib import import_module
from pathlib import Path
from typing import Any, TypeAlias

from prefect.client.orchestration import get_client
from prefect.client.schemas.responses import DeploymentResponse
from prefect.exceptions import ObjectNotFound
from prefect.flows import Flow
from prefect.tasks import Task

from kilroy_engine.errors import InvalidInput
from kilroy_engine.graph.callees import DeploymentCallee, ObjectCallee
from kilroy_engine.graph.checks.subject import did_you_mean
from kilroy_engine.graph.node_types import PREFECT_FLOW, PREFECT_TASK

Callee: TypeAlias = Task[..., Any] | Flow[..., Any]
_KINDS: dict[str, type[Callee]] = {PREFECT_TASK: Task, PREFECT_FLOW: Flow}


def find_callee(reference: ObjectCallee, node_type: str) -> Callee:
    """The task or flow that ``reference`` names. Imports the module, which runs the module's code.

    The module is searched on Python's path, and last in the current folder. A worker's current folder is the deployment's
    folder.

    Raises:
        InvalidInput: The module cannot be imported, or the name is no task or flow. The message says how to mend the node.
    """
    found = _attribute_of(_import(reference.module), reference)
    kind = node_type.removeprefix("prefect.")
    if not isinstance(found, _KINDS[node_type]):
        raise InvalidInput(f"{reference} is {_what(found)}; {_how_to_make(found, kind)}", name="ref")
    if found.isgenerator:
        raise InvalidInput(f"{reference} is a generator; return a list instead of yielding", name="ref")
    return found


def find_deployment(reference: DeploymentCallee) -> DeploymentResponse:
    """The deployment that ``reference`` names, asked from the server.

    Raises:
        InvalidInput: The server has no deployment of that name.
        httpx.HTTPError: The server did not answer.
    """
    with get_client(sync_client=True) as client:
        try:
            return client.read_deployment_by_name(str(reference))
        except ObjectNotFound as absent:
            known = [deployment.name for deployment in client.read_deployments()]
            hint = did_you_mean(reference.deployment, known, otherwise="make it with `prefect deploy`")
            raise InvalidInput(f"there is no deployment {reference} on {client.api_url}; {hint}", name="ref") from absent


def _import(module: str) -> Any:
    folder = str(Path.cwd())
    if folder not in sys.path and "" not in sys.path:
        sys.path.append(folder)
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        if error.name and (module == error.name or module.startswith(f"{error.name}.")):
            raise InvalidInput(
                f"there is no module {module}: install it where the run takes place, or put it into the folder that runs "
                f"start in (a deployment's folder), here {folder}",
                name="ref",
            ) from error
        raise InvalidInput(f"{module} needs the module {error.name}, which is not installed here", name="ref") from error
    except Exception as error:
        # The module's own code runs at its import and may raise anything.
        raise InvalidInput(f"importing {module} failed: {type(error).__name__}: {error}", name="ref") from error


def _attribute_of(found: Any, reference: ObjectCallee) -> Any:
    for part in reference.name.split("."):
        if not hasattr(found, part):
            hint = did_you_mean(part, _callees_in(found), otherwise="name a task or flow that is in it")
            raise InvalidInput(f"{reference.module} has no {part}; {hint}", name="ref")
        found = getattr(found, part)
    return found


def _callees_in(holder: Any) -> Iterable[str]:
    return [name for name, value in vars(holder).items() if isinstance(value, Task | Flow)]


def _what(found: Any) -> str:
    if isinstance(found, Task):
        return "a Prefect task"
    if isinstance(found, Flow):
        return "a Prefect flow"
    return f"a {type(found).__name__} and no Prefect task or flow"


def _how_to_make(found: Any, kind: str) -> str:
    if isinstance(found, Task | Flow):
        other = "flow" if kind == "task" else "task"
        return f'write type="prefect.{other}"'
    return f"decorate it with @prefect.{kind}, or name one that is"
