"""Context values too large for the context: each is kept as a file in ``artifacts/`` with a reference in its place (Spec 5.5).

A text becomes ``<id>.txt`` in UTF-8, any other value ``<id>.json``. Restarts and branches use the run directory's
``artifacts/`` too. The id then begins with the path of the restart's or branch's directory, so that later stages find the file.
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
"""A context value of more bytes, as text or as JSON, becomes a file (Kilroy: 100 KiB)."""

_PLAIN_NAME = re.compile(r"[a-z0-9_]+(?:[.-][a-z0-9_]+)*\Z")
_NAME_CHARACTERS = 60
_TEXT = ".txt"


def encoded(value: Json) -> bytes:
    """The value as its file holds it: a text in UTF-8, any other value as JSON.

    Raises:
        TypeError, ValueError, RecursionError: The value has no JSON form.
    """
    return utf8(value) if isinstance(value, str) else compact(value)


def keep_artifact(run: RunDirectory, scope: str, name: str, value: Json) -> ArtifactReference:
    """Writes the value of the context key ``name`` to ``artifacts/``. The file is flushed to the disk, because the checkpoint
    refers to the file.

    ``scope`` says where the value comes from: ``<node>@<visit>`` for a stage, with the path of the restart or branch before it,
    or ``input``. A second value of the same scope and name replaces the first.

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
    """The content of the file where ``value`` is an artifact reference, else ``value`` itself.

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
    """Checks that every file exists that ``context``, the context saved in ``run``, refers to. Called when a run resumes, and
    when a branch begins or resumes.

    Raises:
        CorruptRecord: Files are missing; the message names them.
    """
    if lost := lost_artifacts(context):
        listed = ", ".join(str(path) for path in lost)
        raise CorruptRecord(f"{run.checkpoint} refers to {listed}, which is not there; restore it from run.tgz", path=run.path)


def lost_artifacts(context: Mapping[str, Json]) -> tuple[Path, ...]:
    """The files that ``context`` refers to and that do not exist."""
    inputs = context.get("inputs")
    values = [*context.values(), *(inputs.values() if isinstance(inputs, dict) else ())]
    paths = {Path(reference.path) for value in values if (reference := read_artifact_reference(value))}
    return tuple(sorted(path for path in paths if not path.is_file()))


def _file_name(name: str) -> str:
    """``name`` where any file system takes it as part of a file name; else the usable part of ``name`` and a digest."""
    if _PLAIN_NAME.match(name) and len(name) <= _NAME_CHARACTERS:
        return name
    kept = re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")[:_NAME_CHARACTERS]
    return f"{kept}~{hashlib.sha256(utf8(name)).hexdigest()[:8]}"
