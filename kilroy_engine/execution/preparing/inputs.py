"""Inputs of a run: the values that stages get, and the texts that may be shown.

A secret's value is never given as a parameter. The parameter names the secret: ``secret:NAME`` is the Prefect Secret block
NAME, ``env:NAME`` the environment variable NAME of the flow's process. Only child processes get the value, as
``KILROY_INPUT_<KEY>``. The context, the run directory and Prefect hold the name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from kilroy_engine.agents.variables import MASK
from kilroy_engine.errors import InvalidInput
from kilroy_engine.graph.inputs import NAMED_SECRET, DeclaredInput
from kilroy_engine.traversal.outcome import Json

SECRET_PREFIX = "secret:"
ENVIRONMENT_PREFIX = "env:"


@dataclass(frozen=True)
class Inputs:
    """``shown`` is for context and files, ``values`` for child processes. They differ in inputs that name a secret.

    ``hidden`` are secret values that are no inputs: what the run's agents get from a block.
    """

    shown: Mapping[str, str] = field(default_factory=dict[str, str])
    values: Mapping[str, str] = field(default_factory=dict[str, str])
    hidden: tuple[str, ...] = field(default=(), repr=False)

    @property
    def secrets(self) -> tuple[str, ...]:
        """The values of the secrets, longest first, for masking."""
        secret = {*self.hidden, *(self.values[key] for key in self.values if self.values[key] != self.shown[key])}
        return tuple(sorted((value for value in secret if value), key=len, reverse=True))

    def masked(self, text: str) -> str:
        """``text`` with every secret's value masked."""
        for value in self.secrets:
            text = text.replace(value, MASK)
        return text

    def masked_value(self, value: Json) -> Json:
        """``value`` with every secret's value masked in all texts, keys of objects included."""
        match value:
            case str():
                return self.masked(value)
            case list():
                return [self.masked_value(item) for item in value]
            case dict():
                return {self.masked(key): self.masked_value(item) for key, item in value.items()}
            case _:
                return value


def with_defaults(declared: Sequence[DeclaredInput], given: Mapping[str, str]) -> dict[str, str]:
    """The inputs with defaults for missing ones, each value in its canonical spelling. A value that does not fit stays as it
    is."""
    values = {known.name: known.absent for known in declared if known.absent is not None} | dict(given)
    return values | {known.name: _spelled(known, values[known.name]) for known in declared if known.name in values}


def check_inputs(declared: Sequence[DeclaredInput], given: Mapping[str, str]) -> None:
    """Checks the inputs against the pipeline's declaration.

    Raises:
        InvalidInput: Inputs are missing or do not fit. The message names all of them.
    """
    missing = sorted(known.name for known in declared if known.name not in given)
    problems = [problem for known in declared if known.name in given and (problem := _misfit(known, given[known.name]))]
    if missing:
        listed = ", ".join(known.name for known in declared)
        problems.append(
            f'missing required inputs: {", ".join(missing)} (declared in graph attribute inputs="{listed}"); '
            f"give each with --input {missing[0]}=VALUE or in the parameter inputs"
        )
    if problems:
        raise InvalidInput("; ".join(problems), name="inputs")


def reveal(
    declared: Sequence[DeclaredInput],
    given: Mapping[str, str],
    environ: Mapping[str, str],
    secret: Callable[[str], str],
) -> Inputs:
    """The inputs with the values of named secrets. Environment variables come from ``environ``, other secrets from ``secret``,
    which raises KeyError for an unknown name. Called when the run is opened.

    Raises:
        InvalidInput: A named secret does not exist, or its value does not fit.
    """
    values = {key: _value(key, text, environ, secret) for key, text in given.items()}
    for known in declared:
        if known.name in values and values[known.name] != given[known.name]:
            try:
                values[known.name] = known.read(values[known.name])
            except ValueError as problem:
                raise InvalidInput(f"input {known.name}: what {given[known.name]} names: {problem}", name="inputs") from problem
    return Inputs(shown=dict(given), values=values)


def _spelled(known: DeclaredInput, text: str) -> str:
    try:
        return text if NAMED_SECRET.fullmatch(text) else known.read(text)
    except ValueError:
        return text  # check_inputs refuses the value later, after the checks of the pipeline


def _misfit(known: DeclaredInput, text: str) -> str:
    """Why a value does not fit; empty if it fits. Never contains a secret's value."""
    try:
        known.require_name(text)
        if not NAMED_SECRET.fullmatch(text):
            known.read(text)
    except ValueError as problem:
        return f"input {known.name}: {problem}" if known.secret else f"input {known.name} is {text[:60]!r}: {problem}"
    return ""


def _value(key: str, text: str, environ: Mapping[str, str], secret: Callable[[str], str]) -> str:
    if text.startswith(ENVIRONMENT_PREFIX):
        name = text.removeprefix(ENVIRONMENT_PREFIX)
        if name not in environ:
            raise InvalidInput(
                f"input {key} names environment variable {name}, which the flow's process does not have", name="inputs"
            )
        return environ[name]
    if text.startswith(SECRET_PREFIX):
        name = text.removeprefix(SECRET_PREFIX)
        try:
            return secret(name)
        except KeyError as absent:
            raise InvalidInput(
                f"input {key} names the Prefect Secret block {name!r}, which does not exist on this server; "
                f"create it in the Prefect UI under Blocks, type Secret",
                name="inputs",
            ) from absent
    return text
