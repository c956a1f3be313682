"""The options of ``kilroy run`` and ``kilroy resume``, and their conversion to the flow's parameters.

Most options follow from the settings table, by topic. This module adds the options that only the command has: options that may
be repeated, and the options for the place of work, which exclude each other.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar, cast, dataclass_transform

from cyclopts import Group, Parameter
from cyclopts.validators import MutuallyExclusive

from kilroy_engine.errors import InvalidInput
from kilroy_engine.settings.setting import Row, Topic
from kilroy_engine.settings.table import SETTINGS, START_OPTIONS

if TYPE_CHECKING:
    from kilroy_engine.settings.options import Options

_HELP = {Topic.PLACE: "At most one of `--repo`, `--workdir` and `--no-git`."}
_GROUPS = {topic: Group(topic.value, sort_key=place, help=_HELP.get(topic, "")) for place, topic in enumerate(Topic, 1)}
_ONE_PLACE = Group("Place of work", show=False, validator=MutuallyExclusive())
_ROWS = {row.name: row for row in (*SETTINGS, *START_OPTIONS)}

_Flags = TypeVar("_Flags")


@dataclass_transform(frozen_default=True)
def with_flags(topic: Topic) -> Callable[[type[_Flags]], type[_Flags]]:
    """Class decorator: makes a frozen dataclass of options for cyclopts.

    Keeps the options that the class declares, and adds an option for each other setting of the topic that has a flag.
    """

    def add(options: type[_Flags]) -> type[_Flags]:
        for row in _ROWS.values():
            if row.setting.topic is topic and row.flag and row.option not in options.__annotations__:
                options.__annotations__[row.option], default = _flag(row)
                setattr(options, row.option, default)
        return dataclass(frozen=True)(options)

    return add


def _flag(row: Row) -> tuple[Any, object]:
    """Annotation and default of the setting's option. The default means that the option was not given."""
    default = f"Default: {row.default_text}." if row.choices or row.kind.form is str else ""
    text = f"{row.setting.meaning} {default}".strip() if row.default else row.setting.meaning
    parameter = Parameter(name=row.flag, group=_GROUPS[row.setting.topic], help=text)
    if row.choices:
        return Annotated[Literal[row.choices] | None, parameter], None
    if row.kind.is_path:
        return Annotated[Path | None, parameter], None
    return Annotated[row.kind.form, parameter], row.kind.unsaid


def check_inputs(kind: object, pairs: Sequence[str]) -> None:  # cyclopts passes the type to every validator
    """Validator of ``--input``: refuses texts that are neither ``NAME=VALUE`` nor a file or JSON mapping."""
    check_labels(kind, [pair for pair in pairs if not pair.startswith(("@", "{"))])


def check_labels(kind: object, pairs: Sequence[str]) -> None:  # cyclopts passes the type to every validator
    """Validator of ``--label``: refuses texts that are not ``NAME=VALUE``."""
    for pair in pairs:
        name, equals, _ = pair.partition("=")
        if not equals or not name.strip():
            raise ValueError(f"{pair!r} is not NAME=VALUE")


@with_flags(Topic.RUN)
class IdentityFlags:
    """Options for the run's name, inputs, labels and directory."""

    input: Annotated[
        list[str],
        Parameter(
            group=_GROUPS[Topic.RUN],
            validator=check_inputs,
            metavar="NAME=VALUE",
            help="An input of the pipeline. `NAME=@FILE` takes the text of a file (`@@` is a plain `@`), `@FILE` takes all "
            "inputs of a JSON or YAML file, `NAME=env:VARIABLE` and `NAME=secret:BLOCK` name a secret. May be repeated; the "
            "last one wins.",
        ),
    ] = ()  # type: ignore[assignment]
    label: Annotated[
        list[str],
        Parameter(
            group=_GROUPS[Topic.RUN],
            validator=check_labels,
            metavar="NAME=VALUE",
            help="A label for finding the run again. May be repeated.",
        ),
    ] = ()  # type: ignore[assignment]


def _one_place(help: str) -> Parameter:
    return Parameter(group=(_GROUPS[Topic.PLACE], _ONE_PLACE), help=help)


@with_flags(Topic.PLACE)
class PlaceFlags:
    """Options for the place where the stages work."""

    repo: Annotated[Path | None, _one_place(_ROWS["repo"].setting.meaning)] = None
    workdir: Annotated[Path | None, _one_place(_ROWS["workdir"].setting.meaning)] = None
    no_git: Annotated[bool, _one_place("Work in an empty scratch folder.")] = False


@with_flags(Topic.WORKERS)
class WorkerFlags:
    """Options for the agents, tools and people that do the nodes' work."""


@with_flags(Topic.LIMITS)
class LimitFlags:
    """Options for time limits and other limits of the run."""


def options_of(*parts: IdentityFlags | PlaceFlags | WorkerFlags | LimitFlags) -> Options:
    """The flow's ``options`` from the command's options. Paths become absolute, because the flow may run in another folder."""
    from kilroy_engine.settings.options import Options

    given: dict[str, object] = {}
    for part in parts:
        given |= {name: _parameter(value) for name, value in vars(part).items() if name in Options.model_fields and value}
        if isinstance(part, PlaceFlags) and (part.repo or part.no_git):
            given["workspace"] = "git" if part.repo else "plain"
    return Options(**given)


def options_of_resume(run: Path, workers: WorkerFlags, limits: LimitFlags, *, force: bool) -> Options:
    """The flow's ``options`` for a resume of the run in the directory ``run``."""
    given = options_of(workers, limits)
    return given.model_copy(update={"resume_from": str(run), "force": force})


def _parameter(value: object) -> object:
    return str(value.expanduser().absolute()) if isinstance(value, Path) else value


def read_pairs(pairs: Sequence[str]) -> dict[str, str]:
    """``NAME=VALUE`` texts as a mapping. The help of ``--input`` lists the other forms.

    Raises:
        InvalidInput: A file cannot be read or holds no inputs.
    """
    found: dict[str, str] = {}
    for pair in pairs:
        if pair.startswith("@"):
            found |= _mapping_in(_text_of(pair[1:], pair), pair)
        elif pair.startswith("{"):
            found |= _mapping_in(pair, "--input")
        else:
            name, _, value = pair.partition("=")
            found[name.strip()] = _value(value, pair)
    return found


def _value(value: str, pair: str) -> str:
    if value.startswith("@@"):
        return value[1:]
    return _text_of(value[1:], pair) if value.startswith("@") else value


def _text_of(name: str, given: str) -> str:
    try:
        return Path(name).expanduser().read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise InvalidInput(f"--input {given}: {name or 'the file'} cannot be read: {reason}", name="input") from error


def _mapping_in(text: str, given: str) -> dict[str, str]:
    import yaml

    try:
        content: object = yaml.safe_load(text)  # JSON is YAML
    except yaml.YAMLError as error:
        raise InvalidInput(f"{given} holds neither JSON nor YAML: {' '.join(str(error).split())}", name="input") from error
    if not isinstance(content, dict):
        raise InvalidInput(f"{given} must hold a mapping of input names to values", name="input")
    entries = cast("dict[object, object]", content)
    return {str(name): value if isinstance(value, str) else json.dumps(value) for name, value in entries.items()}
