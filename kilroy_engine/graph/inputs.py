"""The inputs that a pipeline declares, and the check of a value for an input.

The graph attribute ``inputs`` lists the names (Kilroy). The attributes ``input.<name>.<facet>`` describe them (ours)::

    graph [inputs="topic, depth",
           input.topic.description="What to write about",
           input.depth.type=integer, input.depth.default=3]
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum

from kilroy_engine.graph.attributes import read_bool, read_int, read_number
from kilroy_engine.graph.model import Graph

PREFIX = "input."
FACETS: tuple[str, ...] = ("type", "required", "default", "description", "choices", "secret")

NAMED_SECRET = re.compile(r"(?:secret|env):.+", re.DOTALL)
"""``secret:NAME`` or ``env:NAME``: names a secret, whose value is looked up when the run starts."""


class InputType(StrEnum):
    """The values that an input takes."""

    STRING = "string"
    INTEGER = "integer"
    NUMBER = "number"
    BOOLEAN = "boolean"
    CHOICE = "choice"


@dataclass(frozen=True, slots=True)
class DeclaredInput:
    """One input that a pipeline declares. ``default`` is None for an input without a default."""

    name: str
    type: InputType = InputType.STRING
    required: bool = True
    default: str | None = None
    description: str = ""
    choices: tuple[str, ...] = ()
    secret: bool = False

    @property
    def absent(self) -> str | None:
        """The value of the input if the run does not give it: the default, else empty text. None for a required input."""
        return self.default if self.default is not None else None if self.required else ""

    def read(self, text: str) -> str:
        """The given value ``text`` in the type's spelling: ``yes`` becomes ``true``. An optional input may be empty.

        Raises:
            ValueError: The value does not fit. The error's text says what is expected and never contains the value.
        """
        value = text if self.type is InputType.STRING else text.strip()
        if not value and not self.required:
            return value
        match self.type:
            case InputType.STRING:
                return value
            case InputType.INTEGER:
                number: float | None = read_int(value, default=None)
            case InputType.NUMBER:
                number = _number(value)
            case InputType.BOOLEAN:
                if read_bool(value, default=True) != read_bool(value, default=False):
                    raise ValueError("true or false is expected")
                return "true" if read_bool(value, default=True) else "false"
            case InputType.CHOICE:
                if value not in self.choices:
                    raise ValueError(f"one of {', '.join(self.choices)} is expected")
                return value
        if number is None:
            raise ValueError("a whole number is expected" if self.type is InputType.INTEGER else "a number is expected")
        return str(number) if isinstance(number, int) else value

    def require_name(self, text: str) -> None:
        """Checks that the value of a secret input is a name such as ``env:NAME``. Does nothing for other inputs.

        Raises:
            ValueError: ``text`` is no such name, so it may be the secret itself.
        """
        if self.secret and (text or self.required) and not NAMED_SECRET.fullmatch(text):
            raise ValueError("a secret is named and never given: secret:NAME or env:NAME is expected")


def declared_inputs(graph: Graph) -> tuple[DeclaredInput, ...]:
    """The graph's inputs in the order of the list. A facet with a bad value counts as not written; a rule reports it."""
    facets = {(name, facet): text for name, facet, text in _written(graph)}
    return tuple(_declared(name, {facet: facets.get((name, facet), "") for facet in FACETS}, facets) for name in _names(graph))


def facet_of(key: str) -> tuple[str, str] | None:
    """``<name>`` and ``<facet>`` of the graph attribute ``input.<name>.<facet>``; None for any other ``key``.

    The input need not be declared, nor the facet known.
    """
    if not key.startswith(PREFIX):
        return None
    name, _, facet = key.removeprefix(PREFIX).rpartition(".")
    return (name, facet) if name else None


def _names(graph: Graph) -> Iterator[str]:
    return iter(dict.fromkeys(name.strip() for name in graph.text("inputs").split(",") if name.strip()))


def _written(graph: Graph) -> Iterator[tuple[str, str, str]]:
    for key, attribute in graph.attributes.items():
        if (named := facet_of(key)) is not None:
            yield *named, attribute.value


def _declared(name: str, text: Mapping[str, str], written: Mapping[tuple[str, str], str]) -> DeclaredInput:
    choices = tuple(dict.fromkeys(choice.strip() for choice in text["choices"].split(",") if choice.strip()))
    word = text["type"].strip().lower()
    default = written.get((name, "default"))
    return DeclaredInput(
        name,
        type=InputType(word) if word in tuple(InputType) else InputType.CHOICE if choices else InputType.STRING,
        required=default is None and read_bool(text["required"], default=True),
        default=default,
        description=text["description"].strip(),
        choices=choices,
        secret=read_bool(text["secret"], default=False),
    )


def _number(text: str) -> float | None:
    whole = read_int(text, default=None)
    return whole if whole is not None else read_number(text, default=None)
