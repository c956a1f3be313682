"""Resolves a run's settings: flow parameters (or the CLI's flags), then environment, settings file, default.

The settings are defined in ``kilroy_engine/settings``. This module also resolves the options of one start, such as the run
directory.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from uuid import UUID

from kilroy_engine.errors import InvalidInput
from kilroy_engine.execution.preparing.settings_file import read_settings_file
from kilroy_engine.rundir.files.layout import check_run_id, run_id_of, runs_root
from kilroy_engine.rundir.files.run_config import RUN_CONFIG
from kilroy_engine.settings.options import Options
from kilroy_engine.settings.sources import Said, settings_from
from kilroy_engine.settings.table import RunSettings


def resolve_settings(
    options: Options,
    *,
    repo: str = "",
    environ: Mapping[str, str],
    base: Path | None = None,
    saved: Mapping[str, object] | None = None,
) -> RunSettings:
    """The run's settings from all sources.

    Args:
        options: The options given with the run; ``repo`` likewise.
        environ: The process environment, for ``KILROY_*`` variables.
        base: Folder that a relative settings file is looked up in; the current folder by default.
        saved: ``run_config.json`` of a run that is resumed, by dotted key. It replaces environment and settings file.

    Raises:
        InvalidInput: A source holds a value that does not fit. The message names the source and the expected values.
    """
    given = {"repo": repo, **options.model_dump()}
    if saved is not None:
        return settings_from(Said(given=given, kept=saved, kept_in=RUN_CONFIG), otherwise=RunSettings())
    kept: Mapping[str, object] = {}
    warnings: tuple[str, ...] = ()
    if config := options.config or environ.get("KILROY_CONFIG", ""):
        kept, warnings = read_settings_file((base or Path.cwd()) / config)
    said = Said(given=given, environ=environ, kept=kept, kept_in=config)
    return replace(settings_from(said, otherwise=RunSettings()), warnings=warnings)


def run_directory_path(options: Options, *, run_id: str, environ: Mapping[str, str]) -> Path:
    """Absolute path of a run's directory: the resumed run's, else ``logs_root``, else ``run_id`` under the runs root.

    Called by the flow and by the state hooks, so that a hook in another process finds the run.

    Raises:
        InvalidInput: ``run_id`` does not fit the pattern.
    """
    if options.resume_from:
        return resumed_path(options.resume_from, environ)
    if options.logs_root:
        return Path(options.logs_root).expanduser().absolute()
    return runs_root(environ) / check_run_id(run_id)


def require_task_runner(task_runner: str) -> None:
    """Checks that the package that the task runner needs is installed.

    Raises:
        InvalidInput: The package is missing.
    """
    if task_runner.partition(":")[0] == "dask" and importlib.util.find_spec("prefect_dask") is None:
        raise InvalidInput(
            "task_runner=dask needs prefect-dask: install kilroy-engine[dask], on the workers of the cluster too",
            name="task_runner",
        )


def run_id_for(flow_run_id: UUID, options: Options) -> str:
    """The run's id: the given id, else the ULID form of the flow run's id."""
    return options.run_id or run_id_of(flow_run_id)


def resumed_path(reference: str, environ: Mapping[str, str]) -> Path:
    """The directory that ``resume_from`` names, by the run's id or by a path."""
    if "/" in reference or reference.startswith((".", "~")):
        return Path(reference).expanduser().absolute()
    return runs_root(environ) / check_run_id(reference)
