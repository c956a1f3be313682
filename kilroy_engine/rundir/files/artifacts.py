"""Context values that are too large for the context: files in ``artifacts/`` with a reference in their place (Spec 5.5).

Text is kept as ``<id>.txt``, byte for byte what it was in UTF-8; any other value as ``<id>.json``. Those of restarts
and branches are in the run directory too, below the path of the directory that they came up in: whoever comes later finds them.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import cast

from kilroy_engine.errors import CorruptRecord
from kilroy_engine.events.encoding import compact, from_json, utf8
from kilroy_engine.limits import ARTIFACT_BYTES
from kilroy_engine.rundir.files.atomic import write_bytes
from kilroy_engine.rundir.files.layout import RunDirectory
from kilroy_engine.rundir.files.regular import make_folder, read_file
from kilroy_engine.traversal.artifact import ArtifactReference, read_artifact_reference
from kilroy_engine.traversal.outcome import Json

LIMIT_BYTES = 100 * 1024
"""A value of more bytes, as text or as JSON, becomes a file (Kilroy: 100 KiB)."""

_PLAIN_NAME = re.compile(r"[a-z0-9_]+(?:[.-][a-z0-9_]+)*\Z")
_NAME_CHARACTERS = 60
_TEXT = ".txt"


def encoded(value: Json) -> bytes:
    """The value as it is kept: text as it is, anything else as JSON.

    Raises:
        TypeError, ValueError, RecursionError: It has no JSON form.
    """
    return utf8(value) if isinstance(value, str) else compact(value)


def keep_artifact(run: RunDirectory, scope: str, name: str, value: Json) -> ArtifactReference:
    """Writes the value of the context key ``name`` to ``artifacts/``, flushed to the disk: the checkpoint relies on it.

    ``scope`` says whose value it is: ``<node>@<visit>`` for a stage's, with the path of the restart or branch before it,
    ``input`` for an input. The same scope and name replace each other.

    Raises:
        RunDirectoryError: The disk refused.
    """
    content = encoded(value)
    artifact_id = f"{scope}.{_file_name(name)}"
    path = run.artifacts / f"{artifact_id}{_TEXT if isinstance(value, str) else '.json'}"
    folder = path.parent.relative_to(run.path)
    for part in (*reversed(folder.parents[:-1]), folder):
        make_folder(run.path / part)
    write_bytes(path, content, durable=True)
    digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
    return ArtifactReference(artifact_id, name, str(path), len(content), digest)


def whole_value(value: Json) -> Json:
    """What a context value stands for: the content of its file where it is a reference, else the value itself.

    Raises:
        CorruptRecord: The file is gone or holds no JSON.
    """
    reference = read_artifact_reference(value)
    if reference is None:
        return value
    path = Path(reference.path)
    content = read_file(path, limit_bytes=ARTIFACT_BYTES)
    if content is None:
        raise CorruptRecord(f"the context value {reference.name!r} is gone with its file {path}", path=path)
    try:
        return content.decode("utf-8") if path.suffix == _TEXT else cast("Json", from_json(content))
    except ValueError as error:
        raise CorruptRecord(
            f"the context value {reference.name!r} is damaged in its file {path}: {error}", path=path
        ) from error


def require_artifacts(run: RunDirectory, context: Mapping[str, Json]) -> None:
    """Checks that the files are there that the ``context`` of the checkpoint in ``run`` refers to.

    Raises:
        CorruptRecord: With their names.
    """
    if lost := lost_artifacts(context):
        listed = ", ".join(str(path) for path in lost)
        raise CorruptRecord(f"{run.checkpoint} refers to {listed}, which is not there; restore it from run.tgz", path=run.path)


def lost_artifacts(context: Mapping[str, Json]) -> tuple[Path, ...]:
    """Files that ``context`` refers to and that are not there."""
    inputs = context.get("inputs")
    values = [*context.values(), *(inputs.values() if isinstance(inputs, dict) else ())]
    paths = {Path(reference.path) for value in values if (reference := read_artifact_reference(value))}
    return tuple(sorted(path for path in paths if not path.is_file()))


def _file_name(name: str) -> str:
    """``name`` where it can be part of a file's name on any system, else what can be kept of it and a digest."""
    if _PLAIN_NAME.match(name) and len(name) <= _NAME_CHARACTERS:
        return name
    kept = re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")[:_NAME_CHARACTERS]
    return f"{kept}~{hashlib.sha256(utf8(name)).hexdigest()[:8]}"
