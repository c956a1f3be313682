"""What the reference pages of the command line and of the settings say, from the app and the settings table themselves."""

from __future__ import annotations

from collections.abc import Collection

from kilroy_engine.cli.app import build_app
from kilroy_engine.execution.preparing.settings import SETTINGS, Setting
from kilroy_engine.execution.preparing.settings_file import KILROY_KEYS_WITHOUT_MEANING
from kilroy_engine.markdown import table

_HEADERS = ("setting", "meaning", "default", "`kilroy run`", "flow parameter", "environment", "run.yaml")
_FLAGS = {"repo": "--repo", "inputs": "--input", "labels": "--label", "workspace": "--no-git"}
"""Settings whose command-line option has another name, or which are no part of the flow's ``options``."""


def cli_parts() -> dict[str, str]:
    """Parts of ``docs/reference/cli.md``: every command with its options."""
    generated = build_app(complete=True).generate_docs("markdown")
    return {"commands": generated[generated.index("## kilroy run\n") :]}


def settings_parts() -> dict[str, str]:
    """Parts of ``docs/reference/settings.md``: where each setting may be given, and Kilroy's keys without a meaning."""
    flags = {name for argument in build_app()["run"].assemble_argument_collection() for name in argument.names}
    ignored = ", ".join(f"`{key}`" for key in sorted(KILROY_KEYS_WITHOUT_MEANING))
    return {"settings": table(_HEADERS, (_row(setting, flags) for setting in SETTINGS)), "ignored": ignored}


def _row(setting: Setting, flags: Collection[str]) -> tuple[str, ...]:
    option = _FLAGS.get(setting.name) or f"--{setting.option.replace('_', '-')}"
    in_options = f"options.{setting.option}" if setting.option else ""
    parameter = in_options or (setting.name if setting.name in _FLAGS else "")
    cells = (setting.name, option if option in flags else "", parameter, setting.environment, setting.file_key)
    name, flag, parameter, variable, key = (f"`{cell}`" if cell else "" for cell in cells)
    meaning = setting.meaning.replace("<", "&lt;")  # else Markdown takes it for a tag
    return name, meaning, _default(setting.default), flag, parameter, variable, key


_UNITS = (("d", 86400), ("h", 3600), ("m", 60), ("s", 1), ("s", 0.001))


def _default(value: object) -> str:
    match value:
        case None:
            return "no limit"
        case bool():
            return "off" if not value else "on"
        case "" | () | {}:
            return ""
        case float():
            return next(f"`{value / size:g}{unit}`" for unit, size in _UNITS if value % size == 0)
        case _:
            return f"`{value}`"
