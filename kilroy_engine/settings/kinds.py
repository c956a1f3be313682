"""Kinds of settings: how a value is read from what somebody wrote, how a file keeps it, how the run form offers it.

A setting's kind follows from its type: ``str``, ``bool``, ``Literal[...]``, ``tuple[str, ...]`` and ``Mapping[str, str]`` have
one each. Types that mean more than they say have a name here (``Limit``, ``FilePath``, ``TaskRunner``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeAlias, cast, get_args, get_origin

from kilroy_engine.graph.attributes import read_bool, read_duration_s


@dataclass(frozen=True)
class Kind:
    """How values of a setting look.

    ``read`` takes what was given as a parameter or in the environment, ``read_kept`` what stands in ``run.yaml`` or
    ``run_config.json``; each raises ``ValueError`` with what is expected. ``keep`` makes what ``run_config.json`` holds, whole
    ``milliseconds`` or the value itself. ``form`` is the type that the run form shows, None for a kind that no form offers;
    ``unsaid`` is the form's word for nothing said. ``choices`` are the words of a choice.
    """

    read: Callable[[object], object]
    read_kept: Callable[[object], object]
    keep: Callable[[Any], object]
    form: Any = None
    unsaid: object = ""
    choices: tuple[str, ...] = ()
    milliseconds: bool = False
    is_path: bool = False


def _text(value: object) -> str:
    if not isinstance(value, str | int | float):
        raise ValueError("a text is expected")
    return str(value).strip()


def _switch(value: object) -> bool:
    if isinstance(value, bool):
        return value
    known = read_bool(str(value), default=False), read_bool(str(value), default=True)
    if known[0] != known[1]:
        raise ValueError("true or false is expected")
    return known[0]


def _seconds(value: object) -> float:
    seconds = read_duration_s(str(value), default=None)
    if seconds is None or seconds < 0:
        raise ValueError("a time such as 30s, 15m or 2h is expected")
    return seconds


def _milliseconds(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ValueError("a whole number of milliseconds is expected")
    return value / 1000


def _in_milliseconds(seconds: float | None) -> int:
    return round((seconds or 0) * 1000)


def _texts(value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(item, str) for item in cast("list[object]", value)):
        raise ValueError("a list of texts is expected")
    return tuple(cast("list[str]", value))


def _mapping(value: object) -> dict[str, str]:
    if not isinstance(value, dict):
        raise ValueError("a mapping of names to texts is expected")
    entries = cast("dict[object, object]", value)
    bad = [str(key) for key, item in entries.items() if not isinstance(item, str | int | float | bool)]
    if bad:
        raise ValueError(f"the value of {bad[0]!r} must be a text")
    return {str(key): str(item).lower() if isinstance(item, bool) else str(item) for key, item in entries.items()}


def _task_runner(value: object) -> str:
    word = str(value).strip()
    kind, _, where = word.partition(":")
    if word != "threads" and (kind != "dask" or not (where.isdigit() or "://" in where or word == "dask") or where == "0"):
        raise ValueError("threads, dask, dask:<number of workers> or dask:<address of a scheduler> is expected")
    return word


def _choice(words: tuple[str, ...]) -> Kind:
    def read(value: object) -> str:
        word = str(value).strip()
        if word not in words:
            raise ValueError(f"one of {', '.join(words)} is expected")
        return word

    return Kind(read, read, str, form=str, unsaid="default", choices=words)


TEXT = Kind(_text, _text, str, form=str)
SWITCH = Kind(_switch, _switch, bool, form=bool, unsaid=False)
TEXTS = Kind(_texts, _texts, list)
MAPPING = Kind(_mapping, _mapping, dict)

Limit: TypeAlias = Annotated[
    float | None,
    Kind(
        lambda value: _seconds(value) or None,
        lambda value: _milliseconds(value) or None,
        _in_milliseconds,
        form=str,
        milliseconds=True,
    ),
]
"""Seconds that something may take; 0 is no limit, which is None here. Files keep whole milliseconds."""

FilePath: TypeAlias = Annotated[str, Kind(_text, _text, str, form=str, is_path=True)]
"""The path of a file or folder. The command line makes it absolute."""

TaskRunner: TypeAlias = Annotated[str, Kind(_task_runner, _task_runner, str, form=str)]
"""Where parallel branches run: ``threads``, ``dask``, ``dask:4``, ``dask:tcp://host:8786``."""


def kind_of(annotation: Any) -> Kind:
    """The kind of a setting with this type, ``Annotated`` or not.

    Raises:
        TypeError: No kind reads such a type.
    """
    of_type, *rest = get_args(annotation) if get_origin(annotation) is Annotated else (annotation,)
    for known in rest:
        if isinstance(known, Kind):
            return known
    if get_origin(of_type) is Literal:
        return _choice(tuple(word for word in get_args(of_type) if word))
    kinds = {str: TEXT, bool: SWITCH, tuple[str, ...]: TEXTS, Mapping[str, str]: MAPPING}
    if of_type not in kinds:
        raise TypeError(f"no kind of settings/kinds.py reads {of_type}")
    return kinds[of_type]
