"""``run_config.json``: the settings of a run, kept for its later starts and for the process that ends the run."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import cast

from kilroy_engine.errors import CorruptRecord, InvalidInput, RunDirectoryError
from kilroy_engine.events.encoding import from_json
from kilroy_engine.rundir.files.layout import RunDirectory
from kilroy_engine.rundir.files.regular import read_file
from kilroy_engine.settings.keys import by_key, in_sections
from kilroy_engine.settings.setting import Topic
from kilroy_engine.settings.sources import Said, settings_from
from kilroy_engine.settings.table import RunSettings

RUN_CONFIG = "run_config.json"
"""The file's name, for messages."""


def run_config(settings: RunSettings, *, repo_path: Path | None, inputs: Mapping[str, str]) -> dict[str, object]:
    """The content of the file: Kilroy's keys where Kilroy has one, every default applied, secrets by name only.

    ``repo_path`` is the repository that was found. ``inputs`` are all values that the run has.
    """
    content = in_sections(replace(settings, repo=str(repo_path or ""), inputs=inputs))
    git = cast("dict[str, object]", content["git"])
    return {"version": 1, **content, "git": {"commit_per_node": repo_path is not None, **git}}


def read_run_config(run: RunDirectory) -> Mapping[str, object]:
    """The settings in the file, by dotted key. Unknown keys are left out.

    Raises:
        RunDirectoryError: The file does not exist.
        CorruptRecord: The file is damaged.
    """
    content = read_file(run.run_config)
    if content is None:
        raise RunDirectoryError(
            f"{run.run_config} does not exist; without its settings the run cannot be resumed", path=run.path
        )
    try:
        found = from_json(content)
    except ValueError as error:
        raise _damaged(run, f"it is not JSON: {error}") from error
    if not isinstance(found, dict):
        raise _damaged(run, "it is no JSON object")
    return by_key(cast("dict[object, object]", found))[0]


def kept_settings(run: RunDirectory, *, otherwise: RunSettings, topics: Collection[Topic]) -> RunSettings:
    """The run's settings of these ``topics``. A setting comes from ``otherwise`` where the file does not hold it or does not
    exist.

    Raises:
        CorruptRecord: The file is damaged.
    """
    if not run.run_config.exists():
        return otherwise
    try:
        return settings_from(Said(kept=read_run_config(run), kept_in=RUN_CONFIG), otherwise=otherwise, topics=topics)
    except InvalidInput as error:
        raise _damaged(run, str(error)) from error


def _damaged(run: RunDirectory, what: str) -> CorruptRecord:
    advice = "Restore it from run.tgz or another copy, or start the pipeline anew."
    return CorruptRecord(f"{run.run_config} is damaged ({what}). {advice}", path=run.run_config)
