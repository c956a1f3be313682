"""The tables of the reference pages, made from the classes of the records and events, so that pages and files agree.

``docs/generate.py`` puts the tables into the templates in ``docs/templates``.
"""

from __future__ import annotations

import dataclasses
import enum
import types
import typing
from collections.abc import Iterable, Mapping, Sequence

from pydantic import AwareDatetime, BaseModel

from kilroy_engine.events import CATALOG, OWN_EVENTS, Event
from kilroy_engine.limits import TABLE
from kilroy_engine.markdown import table
from kilroy_engine.rundir.files.layout import RunDirectory
from kilroy_engine.rundir.files.records import CancelRequest, Conclusion, FinalOutcome, Manifest, Record, RunLockRecord
from kilroy_engine.rundir.stages.children import SupervisorRecord
from kilroy_engine.rundir.stages.process_groups import ProcessRecord

_RECORDS: tuple[type[BaseModel], ...] = (
    FinalOutcome,
    Manifest,
    RunLockRecord,
    Conclusion,
    CancelRequest,
    ProcessRecord,
    SupervisorRecord,
)
_SCALARS: Mapping[object, str] = {str: "text", bool: "boolean", int: "integer", float: "number", AwareDatetime: "time"}


def fill(template: str, parts: Mapping[str, str]) -> str:
    """Replaces each line ``<!-- name -->`` of ``template`` by the part of that name.

    Raises:
        KeyError: ``template`` has no such line for a part.
    """
    page = template
    for name, text in parts.items():
        place = f"<!-- {name} -->"
        if place not in page:
            raise KeyError(place)
        page = page.replace(place, text.strip())
    return page.rstrip() + "\n"


def event_parts() -> dict[str, str]:
    """The parts of ``events.md``: an overview and the chapters."""
    links = {chapter: [f"[`{kind.event}`](#{kind.event})" for kind in kinds] for chapter, kinds in CATALOG.items()}
    overview = table(("about", "events"), ((chapter, ", ".join(events)) for chapter, events in links.items()))
    chapters = "\n\n".join(
        f"## {chapter}\n\n" + "\n\n".join(_event(kind) for kind in kinds) for chapter, kinds in CATALOG.items()
    )
    return {"overview": overview, "chapters": chapters}


def directory_parts() -> dict[str, str]:
    """The parts of ``run-directory.md``: the files, the limits for reading them, and the keys of the records."""
    return {
        "files": table(("file", "what it is"), _files()),
        "limits": table(("of", "at most"), TABLE),
        "records": "\n\n".join(_record(kind) for kind in _RECORDS),
    }


def _files() -> Iterable[tuple[str, str]]:
    """Name and description of each file, from the docstrings of ``RunDirectory`` that begin with a name in backticks."""
    for member in vars(RunDirectory).values():
        described = member.fget if isinstance(member, property) else member
        doc = described.__doc__ if isinstance(described, types.FunctionType) else None
        if doc and doc.startswith("`"):
            name, _, text = " ".join(doc.split("\n\n")[0].split()).partition(": ")
            yield name, text[0].upper() + text[1:]


def _event(kind: type[Event]) -> str:
    hints = typing.get_type_hints(kind, include_extras=True)
    rows = [_row(field.name, hints[field.name]) for field in dataclasses.fields(kind)]
    mark = "\n\n*Not in Kilroy.*" if kind.event in OWN_EVENTS else ""
    return f"### `{kind.event}`\n\n{_paragraph(kind)}{mark}\n\n{_keys(rows)}"


def _row(name: str, hint: object) -> tuple[str, str, str]:
    annotated = typing.get_args(hint)
    kind, optional = _type_name(annotated[0])
    return name, f"{kind}, optional" if optional else kind, str(annotated[1])


def _record(kind: type[BaseModel]) -> str:
    title, _, text = _paragraph(kind).partition(": ")
    optional: frozenset[str] = kind.optional if issubclass(kind, Record) else frozenset()
    hints = typing.get_type_hints(kind)
    rows: list[tuple[str, str, str]] = []
    for name, field in kind.model_fields.items():
        shown, _ = _type_name(hints[name])
        rows.append((name, f"{shown}, optional" if name in optional else shown, str(field.description)))
    if issubclass(kind, Record) and kind.sort_keys:
        rows.sort()
    return f"### {title}\n\n{text[0].upper()}{text[1:]}\n\n{_keys(rows)}"


def _keys(rows: Sequence[tuple[str, str, str]]) -> str:
    return table(("key", "type", "meaning"), ((f"`{name}`", kind, meaning) for name, kind, meaning in rows))


def _paragraph(kind: type) -> str:
    return " ".join((kind.__doc__ or "").split("\n\n")[0].split())


def _type_name(hint: object) -> tuple[str, bool]:
    """The name of a type for the reference page, and whether the value may be missing."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        (inner,) = (argument for argument in arguments if argument is not types.NoneType)
        return _type_name(inner)[0], True
    if origin is typing.Literal:
        return " or ".join(f"`{str(value).lower() if isinstance(value, bool) else value}`" for value in arguments), False
    if origin in (tuple, list, Sequence):
        return f"list of {_type_name(arguments[0])[0]}", False
    if origin in (dict, Mapping):
        return "object", False
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        return "text", False
    return _SCALARS[hint], False
