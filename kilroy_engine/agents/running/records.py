"""The files of a stage that tell how an agent program was called and what it said (Kilroy: stage directory files)."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from kilroy_engine.rundir.files.atomic import write_bytes, write_json
from kilroy_engine.rundir.files.regular import open_file, open_for_writing, read_part
from kilroy_engine.traversal.outcome import Json

EVENTS_BYTES = 8 << 20
"""Up to this size ``events.json`` is written beside ``events.ndjson``: the same lines as one list."""


def write_invocation(
    stage_dir: Path, *, provider: str, model: str, argv: Sequence[str], work_dir: Path, prompt: str, variables: Sequence[str]
) -> None:
    """Writes ``cli_invocation.json``. Of the environment it has names only, of the prompt the length."""
    record: dict[str, Json] = {
        "provider": provider,
        "model": model,
        "executable": argv[0],
        "argv": [*argv],
        "working_dir": str(work_dir),
        "prompt_mode": "stdin",
        "prompt_bytes": len(prompt.encode(errors="replace")),
        "env_mode": "allowlist",
        "env_allowlist": [*sorted(variables)],
        "status_path": str(work_dir / "status.json"),
        "status_env_key": "KILROY_STAGE_STATUS_PATH",
    }
    write_json(stage_dir / "cli_invocation.json", record, durable=False)


def write_result(stage_dir: Path, *, duration_s: float, exit_code: int, used: Mapping[str, Json]) -> None:
    """Writes ``cli_timing.json`` and ``provider_used.json``; the program's lines as ``events.ndjson`` and ``events.json``."""
    timing: dict[str, Json] = {"duration_ms": round(duration_s * 1000), "exit_code": exit_code}
    write_json(stage_dir / "cli_timing.json", timing, durable=False)
    write_json(stage_dir / "provider_used.json", used, durable=False)
    _copy(stage_dir / "stdout.log", stage_dir / "events.ndjson")
    if (events := _as_list(stage_dir / "events.ndjson")) is not None:
        write_bytes(stage_dir / "events.json", events)


def _copy(source: Path, target: Path) -> None:
    """Copies a log that the program could have replaced: nothing but a plain file is read.

    Raises:
        CorruptRecord: A link, a pipe or something else is in the log's place.
    """
    lines = open_file(source)
    if lines is None:
        return
    with lines, os.fdopen(open_for_writing(target, os.O_WRONLY | os.O_TRUNC), "wb") as copy:
        shutil.copyfileobj(lines, copy)


def _as_list(path: Path) -> bytes | None:
    """The lines as one JSON list; None where one of them is no JSON, or where they are too many."""
    content = read_part(path, EVENTS_BYTES + 1)
    lines = content.splitlines()
    if len(content) > EVENTS_BYTES or not lines:
        return None
    try:
        for line in lines:
            json.loads(line)
    except (ValueError, RecursionError):
        return None
    return b"[\n" + b",\n".join(lines) + b"\n]"
