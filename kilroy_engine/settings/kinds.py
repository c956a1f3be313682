"""Kinds of settings: how a kind's values are read, how a file stores them, and how the run form offers them.

The type of a settings field decides the setting's kind. ``str``, ``bool``, ``Literal[...]``, ``tuple[str, ...]`` and
``Mapping[str, str]`` have one kind each. ``Limit``, ``FilePath`` and ``TaskRunner`` are named types with a kind of their own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeAlias, cast, get_args, get_origin

from kilroy_engine.graph.attributes import read_bool, read_duration_s

_DIGITS = 18


@dataclass(frozen=True)
class Kind:
    """How to read, store and offer the values of a setting.

    ``read`` reads the value of a parameter or an environment variable. ``read_kept`` reads a value of ``run.yaml`` or
    ``run_config.json``. Both raise ``ValueError``, and its text says what is expected. ``keep`` makes the value that
    ``run_config.json`` stores. ``milliseconds``: files store this kind as whole milliseconds. ``form`` is the type in the run
    form, None for a kind that the form cannot offer. ``unsaid`` is the form's value for "not set". ``choices`` are the words
    of a ``Literal``.
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


def _amount(value: object) -> float | None:
    try:
        amount = float(str(value).strip())
    except ValueError:
        amount = -1.0
    if isinstance(value, bool) or not 0 <= amount < math.inf:
        raise ValueError("a number such as 2.50 is expected")
    return amount or None


def _count(value: object) -> int | None:
    text = str(value).strip().replace("_", "")
    if isinstance(value, bool) or not text.isdecimal() or len(text) > _DIGITS:
        raise ValueError("a whole number such as 200000 is expected")
    return int(text) or None


def _in_milliseconds(seconds: float | None) -> int:
    return round((seconds or 0) * 1000)


def _or_zero(value: float | None) -> float:
    return value or 0


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
AMOUNT = Kind(_amount, _amount, _or_zero, form=str)
COUNT = Kind(_count, _count, _or_zero, form=str)

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
"""A time limit in seconds. Who sets 0 sets no limit; the value is then None. Files store whole milliseconds."""

Amount: TypeAlias = Annotated[float | None, AMOUNT]
"""A number above 0 that is no time: US dollars. 0 is no limit, which is None here."""

Count: TypeAlias = Annotated[int | None, COUNT]
"""A whole number above 0. 0 is no limit, which is None here."""

FilePath: TypeAlias = Annotated[str, Kind(_text, _text, str, form=str, is_path=True)]
"""The path of a file or folder. The command line makes it absolute."""

TaskRunner: TypeAlias = Annotated[str, Kind(_task_runner, _task_runner, str, form=str)]
"""Where parallel branches run: ``threads``, ``dask``, ``dask:4``, ``dask:tcp://host:8786``."""


def kind_of(annotation: Any) -> Kind:
    """The kind of a settings field with the type ``annotation``, with or without ``Annotated``.

    Raises:
        TypeError: No kind exists for the type.
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
