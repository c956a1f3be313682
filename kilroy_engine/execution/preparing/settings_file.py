"""Reads settings from files: a ``run.yaml`` that somebody wrote, and the ``run_config.json`` that a run keeps of its own."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import cast

import yaml

from kilroy_engine.errors import CorruptRecord, InvalidInput, RunDirectoryError
from kilroy_engine.events.encoding import from_json
from kilroy_engine.rundir.files.layout import RunDirectory
from kilroy_engine.rundir.files.regular import read_file

KILROY_KEYS_WITHOUT_MEANING = frozenset(
    {"version", "graph", "task", "cxdb", "llm", "modeldb", "preflight", "artifact_policy", "git.commit_per_node"}
    | {"runtime_policy.stall_check_interval_ms", "runtime_policy.max_llm_retries"}
)
"""Keys of Kilroy's run.yaml that are accepted and change nothing here."""


def read_settings_file(path: Path, known: Collection[str]) -> tuple[Mapping[str, object], tuple[str, ...]]:
    """Content of a ``run.yaml`` as dotted keys, and warnings about keys that are not ``known``.

    Raises:
        InvalidInput: The file is missing, is no YAML, or is no mapping.
    """
    try:
        content: object = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise InvalidInput(f"settings file {path} cannot be read: {reason}", name="config") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f":{mark.line + 1}:{mark.column + 1}" if mark else ""
        raise InvalidInput(
            f"settings file {path}{place} is no YAML: {getattr(error, 'problem', error)}", name="config"
        ) from error
    if content is None:
        return {}, ()
    if not isinstance(content, dict):
        raise InvalidInput(f"settings file {path} must hold a mapping such as 'repo: {{path: .}}'", name="config")
    found, warnings = _flatten(cast("dict[object, object]", content), known, "")
    return found, tuple(f"{path.name}: {text}" for text in warnings)


def read_run_config(run: RunDirectory, known: Collection[str]) -> Mapping[str, object]:
    """What ``run_config.json`` says under the ``known`` keys, as dotted keys.

    Raises:
        RunDirectoryError: There is no such file.
        CorruptRecord: It holds something else.
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
    return _flatten(cast("dict[object, object]", found), known, "")[0]


def _damaged(run: RunDirectory, what: str) -> CorruptRecord:
    advice = "Restore it from run.tgz or another copy, or start the pipeline anew."
    return CorruptRecord(f"{run.run_config} is damaged ({what}). {advice}", path=run.run_config)


def _flatten(content: Mapping[object, object], known: Collection[str], prefix: str) -> tuple[dict[str, object], list[str]]:
    found: dict[str, object] = {}
    warnings: list[str] = []
    for raw_key, value in content.items():
        key = f"{prefix}{raw_key}"
        is_section = isinstance(value, dict) and any(name.startswith(f"{key}.") for name in known)
        if key in known:
            found[key] = value
        elif is_section:
            inner, more = _flatten(cast("dict[object, object]", value), known, f"{key}.")
            found |= inner
            warnings += more
        elif key not in KILROY_KEYS_WITHOUT_MEANING:
            warnings.append(_unknown_key(key, known))
    return found, warnings


def _unknown_key(key: str, known: Collection[str]) -> str:
    near = difflib.get_close_matches(key, sorted(known), n=1, cutoff=0.6)
    return f"unknown key {key!r} is ignored" + (f"; did you mean {near[0]!r}?" if near else "")
