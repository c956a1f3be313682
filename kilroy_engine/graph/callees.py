"""What a call node calls (``ref``: an object in a module, or a deployment) and with which arguments (``param.<name>``)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TypeAlias

from kilroy_engine.graph.model import Node
from kilroy_engine.graph.vocabulary import PARAMETER_PREFIX

_OBJECT = re.compile(r"(?P<module>[^\W\d]\w*(?:\.[^\W\d]\w*)*):(?P<name>[^\W\d]\w*(?:\.[^\W\d]\w*)*)\Z")
_DEPLOYMENT = re.compile(r"(?P<flow>[^/]*[^/\s])/(?P<deployment>[^/]*[^/\s])\Z")


@dataclass(frozen=True, slots=True)
class ObjectCallee:
    """``package.module:name``, an object that can be imported."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}:{self.name}"


@dataclass(frozen=True, slots=True)
class DeploymentCallee:
    """``flow-name/deployment-name``, in Prefect's own notation."""

    flow: str
    deployment: str

    def __str__(self) -> str:
        return f"{self.flow}/{self.deployment}"


Callee: TypeAlias = ObjectCallee | DeploymentCallee


def read_callee(text: str) -> Callee | None:
    """What ``text`` refers to; None where it is neither. A path such as ``flows/etl.py:etl`` is neither."""
    text = text.strip()
    if match := _OBJECT.match(text):
        return ObjectCallee(match["module"], match["name"])
    if ".py:" not in text and (match := _DEPLOYMENT.match(text)):
        return DeploymentCallee(match["flow"], match["deployment"])
    return None


def parameters_of(node: Node) -> dict[str, str]:
    """The arguments that the node writes down, by name."""
    return {
        key.removeprefix(PARAMETER_PREFIX): attribute.value
        for key, attribute in node.attributes.items()
        if key.startswith(PARAMETER_PREFIX)
    }
