"""Generates the tables of the reference pages for the command line and the settings. Called by ``docs/generate.py``."""

from __future__ import annotations

from kilroy_engine.cli.app import build_app
from kilroy_engine.markdown import table
from kilroy_engine.settings.keys import KILROY_KEYS_WITHOUT_MEANING
from kilroy_engine.settings.setting import Row
from kilroy_engine.settings.table import SETTINGS, START_OPTIONS


def cli_parts() -> dict[str, str]:
    """Generated parts of ``docs/reference/cli.md``, by name: every command with its options."""
    generated = build_app(complete=True).generate_docs("markdown")
    return {"commands": generated[generated.index("## kilroy run\n") :]}


def settings_parts() -> dict[str, str]:
    """Generated parts of ``docs/reference/settings.md``, by name: tables of the settings and of the options of a start, and
    Kilroy's keys that have no meaning here."""
    ignored = ", ".join(f"`{key}`" for key in sorted(KILROY_KEYS_WITHOUT_MEANING))
    settings = table((*_COLUMNS, "run.yaml"), ((*_cells(row), _code(row.key)) for row in SETTINGS))
    return {"settings": settings, "start": table(_COLUMNS, map(_cells, START_OPTIONS)), "ignored": ignored}


_COLUMNS = ("setting", "meaning", "default", "`kilroy run`", "flow parameter", "environment")


def _cells(row: Row) -> tuple[str, ...]:
    meaning = row.setting.meaning.replace("<", "&lt;")  # otherwise Markdown reads a tag
    default = row.default_text if row.default in (None, False, True) else _code(row.default_text)
    parameter = f"options.{row.option}" if row.option else row.parameter
    return (_code(row.name), meaning, default, _code(row.flag_shown), _code(parameter), _code(row.environment))


def _code(text: str) -> str:
    return f"`{text}`" if text else ""
