"""Keys of ``run.yaml`` and ``run_config.json``: a file has nested sections, the settings table has dotted keys."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import cast

from kilroy_engine.settings.table import KEYS, SETTINGS, RunSettings

KILROY_KEYS_WITHOUT_MEANING = frozenset(
    {"version", "graph", "task", "cxdb", "llm", "modeldb", "preflight", "artifact_policy", "git.commit_per_node"}
    | {"runtime_policy.stall_check_interval_ms", "runtime_policy.max_llm_retries"}
)
"""Keys of Kilroy's ``run.yaml`` that this engine accepts without a warning and ignores."""


def by_key(content: Mapping[object, object], prefix: str = "") -> tuple[dict[str, object], list[str]]:
    """The values in the content of a settings file by dotted key, and a warning for each unknown key.

    ``prefix`` is the dotted key of the section around ``content`` with a dot at its end.
    """
    found: dict[str, object] = {}
    warnings: list[str] = []
    for raw_key, value in content.items():
        key = f"{prefix}{raw_key}"
        is_section = isinstance(value, dict) and any(name.startswith(f"{key}.") for name in KEYS)
        if key in KEYS:
            found[key] = value
        elif is_section:
            inner, more = by_key(cast("dict[object, object]", value), f"{key}.")
            found |= inner
            warnings += more
        elif key not in KILROY_KEYS_WITHOUT_MEANING:
            warnings.append(_unknown_key(key))
    return found, warnings


def in_sections(settings: RunSettings) -> dict[str, object]:
    """All settings as the content of ``run_config.json``, in nested sections. The reverse of :func:`by_key`."""
    content: dict[str, object] = {}
    for row in SETTINGS:
        section, (*names, last) = content, row.key.split(".")
        for name in names:
            section = cast("dict[str, object]", section.setdefault(name, {}))
        section[last] = row.kind.keep(getattr(settings, row.name))
    return content


def _unknown_key(key: str) -> str:
    near = difflib.get_close_matches(key, sorted(KEYS), n=1, cutoff=0.6)
    return f"unknown key {key!r} is ignored" + (f"; did you mean {near[0]!r}?" if near else "")
