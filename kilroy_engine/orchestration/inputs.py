"""Inputs of a run: the values that stages see, and what may be shown of them.

A secret is never a parameter's value. It is named: ``secret:NAME`` is the Prefect Secret block NAME, ``env:NAME`` the
environment variable NAME of the flow's process. Only child processes get the value, as ``KILROY_INPUT_<KEY>``; the context,
the run directory and Prefect hold the name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from kilroy_engine.errors import InvalidInput
from kilroy_engine.graph.model import Graph
from kilroy_engine.graph.transforms import declared_inputs

SECRET_PREFIX = "secret:"
ENVIRONMENT_PREFIX = "env:"
MASK = "********"


@dataclass(frozen=True)
class Inputs:
    """``shown`` goes to context and files, ``values`` to child processes; they differ where an input names a secret."""

    shown: Mapping[str, str] = field(default_factory=dict[str, str])
    values: Mapping[str, str] = field(default_factory=dict[str, str])

    @property
    def secrets(self) -> tuple[str, ...]:
        """The secret values, longest first, for masking."""
        secret = {self.values[key] for key in self.values if self.values[key] != self.shown[key]}
        return tuple(sorted((value for value in secret if value), key=len, reverse=True))

    def masked(self, text: str) -> str:
        """``text`` with every secret value blotted out."""
        for value in self.secrets:
            text = text.replace(value, MASK)
        return text


def check_inputs(graph: Graph, given: Mapping[str, str]) -> None:
    """Checks the inputs against the graph's declaration.

    Raises:
        InvalidInput: A declared input is missing.
    """
    missing = sorted(set(declared_inputs(graph)) - set(given))
    if missing:
        raise InvalidInput(
            f'missing required inputs: {", ".join(missing)} (declared in graph attribute inputs="{graph.text("inputs")}"); '
            f"give each with --input {missing[0]}=VALUE or in the parameter inputs",
            name="inputs",
        )


def reveal(given: Mapping[str, str], environ: Mapping[str, str]) -> Inputs:
    """The inputs with the named secrets looked up. Asks the Prefect server where one is a Secret block.

    Raises:
        InvalidInput: A named secret does not exist.
    """
    return Inputs(shown=dict(given), values={key: _value(key, text, environ) for key, text in given.items()})


def _value(key: str, text: str, environ: Mapping[str, str]) -> str:
    if text.startswith(ENVIRONMENT_PREFIX):
        name = text.removeprefix(ENVIRONMENT_PREFIX)
        if name not in environ:
            raise InvalidInput(
                f"input {key} names environment variable {name}, which the flow's process does not have", name="inputs"
            )
        return environ[name]
    if text.startswith(SECRET_PREFIX):
        return _secret_block(key, text.removeprefix(SECRET_PREFIX))
    return text


def _secret_block(key: str, name: str) -> str:
    from prefect.blocks.system import Secret

    try:
        block = Secret.load(name)
    except ValueError as error:
        raise InvalidInput(
            f"input {key} names the Prefect Secret block {name!r}, which does not exist on this server; "
            f"create it in the Prefect UI under Blocks, type Secret",
            name="inputs",
        ) from error
    return str(block.get())  # type: ignore[union-attr]
