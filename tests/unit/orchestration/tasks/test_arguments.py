"""Arguments of a call: text and JSON become what the callee's type hints say."""

from __future__ import annotations

import datetime as dt
from enum import Enum
from pathlib import Path
from typing import Any, Literal

import pytest
from prefect import flow
from pydantic import BaseModel

from kilroy_engine.errors import InvalidInput
from kilroy_engine.orchestration.tasks.arguments import check_names, schema_arguments, typed_arguments


class Mode(Enum):
    FAST = "fast"


class Table(BaseModel):
    name: str
    rows: int = 0


class Foreign:
    """A class that pydantic knows nothing of."""


def callee(
    n: int = 0,
    ratio: float = 0,
    on: bool = False,
    text: str = "",
    tags: list[str] = [],  # noqa: B006  # only its annotation is read
    table: Table | None = None,
    mode: Mode = Mode.FAST,
    kind: Literal["a", "b"] = "a",
    day: dt.date | None = None,
    path: Path = Path(),
    anything: Any = None,
    foreign: Foreign | None = None,
    bare=None,
) -> None:
    """Never called."""


@pytest.mark.parametrize(
    ("name", "given", "value"),
    [
        ("n", "3", 3),
        ("n", 3, 3),
        ("ratio", "0.5", 0.5),
        ("on", "true", True),
        ("on", "off", False),
        ("text", "3", "3"),
        ("text", 3, "3"),
        ("text", '["a"]', '["a"]'),
        ("tags", '["a", "b"]', ["a", "b"]),
        ("tags", ["a"], ["a"]),
        ("table", '{"name": "t", "rows": 2}', Table(name="t", rows=2)),
        ("table", {"name": "t"}, Table(name="t")),
        ("table", "null", None),
        ("mode", "fast", Mode.FAST),
        ("kind", "b", "b"),
        ("day", "2026-02-01", dt.date(2026, 2, 1)),
        ("path", "x/y", Path("x/y")),
        ("anything", "3", "3"),
        ("anything", {"k": [1]}, {"k": [1]}),
        ("bare", "3", "3"),
    ],
)
def test_a_value_is_read_by_its_type_hint(name: str, given: Any, value: Any) -> None:
    """Text first as the type, then as JSON of it; without a hint it stays as it is."""
    assert typed_arguments(callee, {name: given}) == {name: value}


@pytest.mark.parametrize(
    ("name", "given", "message"),
    [
        ("n", "three", "param.n is 'three', and the parameter takes int: Input should be a valid integer"),
        ("tags", "a, b", "param.tags is 'a, b', and the parameter takes list[str]"),
        ("kind", "c", "param.kind is 'c'.* Input should be 'a' or 'b'"),
        ("n", None, "param.n is 'null', and the parameter takes int"),
        ("foreign", "x", "param.foreign is 'x'"),
    ],
)
def test_a_value_that_does_not_fit_is_refused_by_name(name: str, given: Any, message: str) -> None:
    """With the type and what is wrong."""
    with pytest.raises(InvalidInput, match=message.replace("[", r"\[")) as refusal:
        typed_arguments(callee, {name: given})
    assert refusal.value.name == name


def test_hints_that_cannot_be_looked_up_leave_the_values_alone() -> None:
    """Names that only a type checker imports: Prefect cannot read them either."""

    def checked(n: OnlyForTypeCheckers) -> None:  # noqa: F821  # that is the point
        """Never called."""

    assert typed_arguments(checked, {"n": "3"}) == {"n": "3"}


def test_names_are_checked_against_the_signature() -> None:
    """An unknown one with the near one, a missing one by name; ``**kwargs`` takes all."""

    def takes(a: int, *, b: int = 1, **rest: int) -> None:
        """Never called."""

    def needs(source: str, target: str) -> None:
        """Never called."""

    check_names(takes, ["a", "whatever"])
    assert typed_arguments(takes, {"a": "1", "whatever": "2"}) == {"a": 1, "whatever": 2}
    with pytest.raises(InvalidInput, match=r"it has no parameter sorce; did you mean 'source'\?"):
        check_names(needs, ["sorce", "target"])
    with pytest.raises(InvalidInput, match=r"it needs the parameters source, target: add param.source="):
        check_names(needs, [])
    with pytest.raises(InvalidInput, match="it has no parameter n; it takes none"):
        check_names(lambda: None, ["n"])


@flow
def deployed(n: int, tags: list[str], note: str, table: Table | None = None, mixed: int | str = 1) -> None:
    """Its schema is what Prefect stores of it."""


SCHEMA = deployed.parameters.model_dump()


def test_a_deployments_arguments_follow_its_schema() -> None:
    """Text becomes JSON where the schema takes no text; a text parameter keeps it, and so does one that takes both."""
    given = {"n": "3", "tags": '["a"]', "note": "7", "table": '{"name": "t"}', "mixed": "5"}

    assert schema_arguments(SCHEMA, given) == {"n": 3, "tags": ["a"], "note": "7", "table": {"name": "t"}, "mixed": "5"}
    assert schema_arguments(SCHEMA, {**given, "n": "three"})["n"] == "three"


def test_a_deployments_defaults_count_for_what_is_needed() -> None:
    """What the deployment sets itself need not be given."""
    assert schema_arguments(SCHEMA, {"n": "3"}, defaults={"tags": [], "note": ""}) == {"n": 3}
    with pytest.raises(InvalidInput, match="it needs the parameters tags, note"):
        schema_arguments(SCHEMA, {"n": "3"})
    with pytest.raises(InvalidInput, match=r"no parameter tag; did you mean 'tags'\?"):
        schema_arguments(SCHEMA, {"tag": "3"})
