"""Converts the arguments of a call node, which are text or JSON, to the values that the called task or flow takes."""

from __future__ import annotations

import inspect
import json
import typing
from collections.abc import Callable, Iterable, Mapping
from typing import Any, cast

from pydantic import ConfigDict, ValidationError, create_model
from pydantic.errors import PydanticUserError

from kilroy_engine.errors import InvalidInput
from kilroy_engine.graph.checks.subject import did_you_mean
from kilroy_engine.traversal.outcome import Json

_ANY_TYPE = ConfigDict(arbitrary_types_allowed=True, coerce_numbers_to_str=True)


def check_names(function: Callable[..., Any], names: Iterable[str]) -> None:
    """Checks the names of the arguments against the function's parameters.

    Raises:
        InvalidInput: A name is no parameter, or a parameter without a default is not among the names.
    """
    parameters = _parameters(function)
    needed = [name for name, parameter in parameters.items() if parameter.default is inspect.Parameter.empty]
    _check(set(names), known=list(parameters), needed=needed, open_ended=_keywords(function) is not None)


def typed_arguments(function: Callable[..., Any], given: Mapping[str, Json]) -> dict[str, Any]:
    """The arguments converted to the function's type hints. A text is read as the type, or else as JSON of the type.

    Raises:
        InvalidInput: An argument does not fit. The message names the argument, the type and the problem.
    """
    hints = _hints(function)
    keywords = _keywords(function)
    rest = hints.get(keywords, Any) if keywords else Any
    return {name: _typed(name, value, hints.get(name, rest)) for name, value in given.items()}


def schema_arguments(
    schema: Mapping[str, Any], given: Mapping[str, Json], *, defaults: Mapping[str, Any] = {}
) -> dict[str, Any]:
    """The arguments of a deployment's run, by the deployment's parameter schema.

    A text is read as JSON where the schema takes no text. ``defaults`` are the deployment's own parameters.

    Raises:
        InvalidInput: The flow has no such parameter, or a required parameter has neither a value nor a default.
    """
    properties = cast("Mapping[str, Mapping[str, Any]]", schema.get("properties") or {})
    needed = [name for name in cast("list[str]", schema.get("required") or []) if name not in defaults]
    _check(set(given), known=list(properties), needed=needed, open_ended=not properties and bool(given))
    return {name: _by_schema(value, properties.get(name, {}), schema) for name, value in given.items()}


def _parameters(function: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    by_name = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return {name: p for name, p in inspect.signature(function).parameters.items() if p.kind in by_name}


def _keywords(function: Callable[..., Any]) -> str | None:
    """Name of the function's ``**`` parameter; None where there is none."""
    found = (p.name for p in inspect.signature(function).parameters.values() if p.kind is inspect.Parameter.VAR_KEYWORD)
    return next(found, None)


def _hints(function: Callable[..., Any]) -> dict[str, Any]:
    try:
        return typing.get_type_hints(function, include_extras=True)
    except (NameError, TypeError, AttributeError):
        return {}  # only a type checker can resolve these hints: the values are passed unchanged


def _check(given: set[str], *, known: list[str], needed: list[str], open_ended: bool) -> None:
    missing = [name for name in needed if name not in given]
    unknown = sorted(given - set(known))
    if unknown and not open_ended:
        has = f"it has {', '.join(known)}" if known else "it takes none"
        raise InvalidInput(
            f"it has no parameter {unknown[0]}; {did_you_mean(unknown[0], known, otherwise=has)}", name=unknown[0]
        )
    if missing:
        raise InvalidInput(
            f"it needs {'the parameter' if len(missing) == 1 else 'the parameters'} {', '.join(missing)}: "
            f"add param.{missing[0]}=…",
            name=missing[0],
        )


def _typed(name: str, value: Json, hint: Any) -> Any:
    try:
        holder = create_model("Argument", __config__=_ANY_TYPE, value=(hint, ...))
    except PydanticUserError:
        return value  # pydantic knows no schema for this type: the value is passed unchanged
    try:
        return holder.model_validate({"value": value}).value  # type: ignore[attr-defined]
    except ValidationError as error:
        refusal = error
    if isinstance(value, str):
        try:
            return holder.model_validate({"value": json.loads(value)}).value  # type: ignore[attr-defined]
        except (ValueError, ValidationError):
            pass  # neither text nor JSON of the type: the first refusal describes the text as written
    shown = value if isinstance(value, str) else json.dumps(value, default=str)
    raise InvalidInput(
        f"param.{name} is {shown[:80]!r}, and the parameter takes {_shown(hint)}: {refusal.errors()[0]['msg']}", name=name
    ) from refusal


def _shown(hint: Any) -> str:
    return hint.__name__ if isinstance(hint, type) and not typing.get_args(hint) else str(hint).replace("typing.", "")


def _by_schema(value: Json, wanted: Mapping[str, Any], schema: Mapping[str, Any]) -> Json:
    kinds = _kinds(wanted, schema)
    if not isinstance(value, str) or not kinds or "string" in kinds:
        return value
    try:
        return json.loads(value)
    except ValueError:
        return value  # the flow's own validation says what is wrong with the value


def _kinds(wanted: Mapping[str, Any], schema: Mapping[str, Any]) -> set[str]:
    """JSON types that ``wanted``, a part of the schema, accepts. Empty where the schema names no type."""
    if "$ref" in wanted:
        name = str(wanted["$ref"]).rpartition("/")[2]
        definitions = schema.get("definitions") or schema.get("$defs") or {}
        return _kinds(cast("Mapping[str, Any]", definitions.get(name, {})), {})
    parts = [*wanted.get("anyOf", ()), *wanted.get("oneOf", ()), *wanted.get("allOf", ())]
    if parts:
        return {kind for part in parts for kind in _kinds(part, schema)}
    kind = wanted.get("type")
    return {str(one) for one in cast("list[object]", kind)} if isinstance(kind, list) else {str(kind)} if kind else set()
