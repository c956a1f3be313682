"""Inputs of a run: the values that stages see, and what may be shown of them.

A secret is never a parameter's value. It is named: ``secret:NAME`` is the Prefect Secret block NAME, ``env:NAME`` the
environment variable NAME of the flow's process. Only child processes get the value, as ``KILROY_INPUT_<KEY>``; the context,
the run directory and Prefect hold the name.
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
    """``shown`` goes to context and files, ``values`` to child processes; they differ where an input names a secret.

    ``hidden`` are values that are no inputs and nobody may see either: what the run's agents get of a block.
    """

    shown: Mapping[str, str] = field(default_factory=dict[str, str])
    values: Mapping[str, str] = field(default_factory=dict[str, str])
    hidden: tuple[str, ...] = field(default=(), repr=False)

    @property
    def secrets(self) -> tuple[str, ...]:
        """The secret values, longest first, for masking."""
        secret = {*self.hidden, *(self.values[key] for key in self.values if self.values[key] != self.shown[key])}
        return tuple(sorted((value for value in secret if value), key=len, reverse=True))

    def masked(self, text: str) -> str:
        """``text`` with every secret value blotted out."""
        for value in self.secrets:
            text = text.replace(value, MASK)
        return text

    def masked_value(self, value: Json) -> Json:
        """``value`` with every secret in its texts blotted out, names of entries included."""
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
    """The inputs with defaults for those that are not given, values in their one spelling. What does not fit stays as it is."""
    values = {known.name: known.absent for known in declared if known.absent is not None} | dict(given)
    return values | {known.name: _spelled(known, values[known.name]) for known in declared if known.name in values}


def check_inputs(declared: Sequence[DeclaredInput], given: Mapping[str, str]) -> None:
    """Checks the inputs against the pipeline's declaration.

    Raises:
        InvalidInput: One is missing or does not fit; the message names all of them.
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
    """The inputs with the named secrets looked up: environment variables in ``environ``, others by ``secret``, which raises
    KeyError for one that it does not have.

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
        return text  # check_inputs says what is wrong with it, once the pipeline itself is known to be sound


def _misfit(known: DeclaredInput, text: str) -> str:
    """What is wrong with a value; never the value of a secret."""
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
