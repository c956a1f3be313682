"""The type of the flow's parameter ``options``, made from the settings table. Prefect makes the run form from its schema."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, create_model

from kilroy_engine.settings.setting import Row
from kilroy_engine.settings.table import SETTINGS, START_OPTIONS, StartOptions


def _field(row: Row) -> tuple[Any, Any]:
    """The type and the pydantic field of the option that ``row`` describes."""
    kind: Any = Literal[("default", *row.choices)] if row.choices else row.kind.form
    return kind, Field(row.kind.unsaid, title=row.setting.title, description=row.setting.meaning)


if TYPE_CHECKING:

    class Options(StartOptions, BaseModel, frozen=True):
        """The flow's options, as type checkers see them: those of a start by name, those of settings as any keywords."""

        def __init__(self, **given: object) -> None: ...

else:
    Options = create_model(
        "Options",
        __config__=ConfigDict(extra="forbid", frozen=True),
        __module__=__name__,
        __doc__='Everything about a run that is rarely changed. An empty text, a switch that is off and "default" mean: '
        "not set here.",
        **{row.option: _field(row) for row in (*SETTINGS, *START_OPTIONS) if row.option},
    )
