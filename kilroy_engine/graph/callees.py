"""Reads from a call node what it calls (attribute ``ref``) and with which arguments (attributes ``param.<name>``)."""

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
    """A task or flow to import, written ``package.module:name``."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}:{self.name}"


@dataclass(frozen=True, slots=True)
class DeploymentCallee:
    """A deployment of a flow, written ``flow-name/deployment-name`` as in Prefect."""

    flow: str
    deployment: str

    def __str__(self) -> str:
        return f"{self.flow}/{self.deployment}"


Callee: TypeAlias = ObjectCallee | DeploymentCallee


def read_callee(text: str) -> Callee | None:
    """The callee that ``text`` names; None where ``text`` has neither notation, as in ``flows/etl.py:etl``."""
    text = text.strip()
    if match := _OBJECT.match(text):
        return ObjectCallee(match["module"], match["name"])
    if ".py:" not in text and (match := _DEPLOYMENT.match(text)):
        return DeploymentCallee(match["flow"], match["deployment"])
    return None


def parameters_of(node: Node) -> dict[str, str]:
    """The arguments of the call: the values of the node's ``param.<name>`` attributes by ``<name>``."""
    return {
        key.removeprefix(PARAMETER_PREFIX): attribute.value
        for key, attribute in node.attributes.items()
        if key.startswith(PARAMETER_PREFIX)
    }
