"""Resolves the settings of a run: for each setting, the first source that has a value wins.

An empty text, a switch that is off and the word ``default`` count as no value.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace

from kilroy_engine.errors import InvalidInput
from kilroy_engine.settings.setting import Row, Topic
from kilroy_engine.settings.table import SETTINGS, RunSettings


@dataclass(frozen=True, kw_only=True)
class Said:
    """The values of all sources, in the order in which they win.

    ``given`` holds the values given with the run, by parameter. ``environ`` holds the environment variables. ``kept`` holds the
    values of a file by dotted key, and ``kept_in`` is the file's name for messages.
    """

    given: Mapping[str, object] = field(default_factory=dict[str, object])
    environ: Mapping[str, str] = field(default_factory=dict[str, str])
    kept: Mapping[str, object] = field(default_factory=dict[str, object])
    kept_in: str = ""


def settings_from(said: Said, *, otherwise: RunSettings, topics: Collection[Topic] = tuple(Topic)) -> RunSettings:
    """The settings that the sources in ``said`` give, for the settings of ``topics``. All others come from ``otherwise``.

    Raises:
        InvalidInput: A source holds a value that does not fit. The message names the source and says what is expected.
    """
    values = {row.name: _first_said(row, said, getattr(otherwise, row.name)) for row in SETTINGS if row.setting.topic in topics}
    return replace(otherwise, **values)  # type: ignore[arg-type]


def _first_said(row: Row, said: Said, otherwise: object) -> object:
    candidates = (
        (f"parameter {row.parameter}", said.given.get(row.parameter), row.kind.read),
        (f"environment variable {row.environment}", said.environ.get(row.environment), row.kind.read),
        (f"{row.key} in {said.kept_in}", said.kept.get(row.key), row.kind.read_kept),
    )
    for source, value, read in candidates:
        if value is None or value is False or value in ("", "default"):
            continue
        try:
            return read(value)
        except ValueError as error:
            raise InvalidInput(f"{source} is {value!r}: {error}", name=row.name) from error
    return otherwise
