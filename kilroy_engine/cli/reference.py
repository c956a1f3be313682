"""The reference pages of the command line and of the settings, made from the app and the settings table themselves."""

from __future__ import annotations

from collections.abc import Collection

from kilroy_engine.cli.app import build_app
from kilroy_engine.orchestration.settings import KILROY_KEYS_WITHOUT_MEANING, SETTINGS, Setting

_CLI_HEAD = """# Command line

`kilroy` prints results on standard output and everything else on standard error, so `$(kilroy run …)` and pipes get results
only. Colors and the live view need a terminal; `NO_COLOR` turns colors off.

## Exit codes

| code | meaning |
|---|---|
| 0 | success |
| 1 | the run failed, could not start, or something asked for is not there |
| 2 | the command line cannot be understood; for `kilroy runs wait`: the time is up |
| 130 | the run was canceled, or the command was interrupted |
| 141 | whoever read the output went away |

## Which run is meant

Where a command takes a `RUN`, it is a run id, a beginning of one that fits a single run (upper and lower case are the same),
or the path of a run directory. Without it the run that was started last is meant.

## Environment

| variable | meaning |
|---|---|
| `KILROY_RUNS_ROOT` | folder of run directories; default `$XDG_STATE_HOME/kilroy/attractor/runs` |
| `XDG_STATE_HOME` | where runs and the local server keep their files; default `~/.local/state` |
| `KILROY_SERVER_IDLE_S` | seconds without use after which the local Prefect server stops; default 3600 |
| `KILROY_DEBUG` | any value: print the traceback of an error |
| `PREFECT_API_URL` | the Prefect server to use; so do all of Prefect's other settings and profiles |

The variables of single settings are in [Settings](settings.md).
"""

_SETTINGS_HEAD = """# Settings

A setting is looked up in this order, and the first place that says something wins: the flow parameter (`kilroy run` options
are the same thing), the environment of the flow's process, the settings file, the default. An empty text, a switch that is off
and the choice `default` say nothing.

The settings file is a `run.yaml`, named by `--config`, by the option `config` or by `KILROY_CONFIG`. Keys with a dot are
nested: `git.push_remote` is `push_remote` below `git`. Times are texts such as `90s`, `15m` or `2h`; keys that end in `_ms`
are whole numbers of milliseconds.

| setting | meaning | default | `kilroy run` | flow parameter | environment | run.yaml |
|---|---|---|---|---|---|---|
"""

_FLAGS = {"repo": "--repo", "inputs": "--input", "labels": "--label", "workspace": "--no-git"}
"""Settings whose command-line option has another name, or which are no part of the flow's ``options``."""


def render_cli_md() -> str:
    """``docs/reference/cli.md``."""
    app = build_app(complete=True)
    generated = app.generate_docs("markdown", heading_level=1)
    commands = generated[generated.index("\n## kilroy run\n") :]
    return f"{_CLI_HEAD}{commands.rstrip()}\n"


def render_settings_md() -> str:
    """``docs/reference/settings.md``."""
    flags = {name for argument in build_app()["run"].assemble_argument_collection() for name in argument.names}
    rows = "".join(_row(setting, flags) for setting in SETTINGS)
    ignored = ", ".join(f"`{key}`" for key in sorted(KILROY_KEYS_WITHOUT_MEANING))
    return f"{_SETTINGS_HEAD}{rows}\nKeys of Kilroy's run.yaml that are accepted and change nothing: {ignored}.\n"


def _row(setting: Setting, flags: Collection[str]) -> str:
    option = _FLAGS.get(setting.name) or f"--{setting.option.replace('_', '-')}"
    in_options = f"options.{setting.option}" if setting.option else ""
    parameter = in_options or (setting.name if setting.name in _FLAGS else "")
    cells = (setting.name, option if option in flags else "", parameter, setting.environment, setting.file_key)
    name, flag, parameter, variable, key = (f"`{cell}`" if cell else "" for cell in cells)
    meaning = setting.meaning.replace("<", "&lt;")  # else Markdown takes it for a tag
    return f"| {name} | {meaning} | {_default(setting.default)} | {flag} | {parameter} | {variable} | {key} |\n"


def _default(value: object) -> str:
    match value:
        case None:
            return "no limit"
        case bool():
            return "off" if not value else "on"
        case "" | () | {}:
            return ""
        case float():
            return f"{value:g} s"
        case _:
            return f"`{value}`"
