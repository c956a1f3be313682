"""Reads a user's settings file, ``run.yaml``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import cast

import yaml

from kilroy_engine.errors import InvalidInput
from kilroy_engine.settings.keys import by_key


def read_settings_file(path: Path) -> tuple[Mapping[str, object], tuple[str, ...]]:
    """The content of a ``run.yaml`` by dotted keys, and warnings about unknown keys.

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
    found, warnings = by_key(cast("dict[object, object]", content))
    return found, tuple(f"{path.name}: {text}" for text in warnings)
