"""How much is read of a file that a stage can touch. The table in the reference page of the run directory is made from here."""

from __future__ import annotations

RECORD_BYTES = 16 << 20
"""A record: `manifest.json`, `final.json`, `run_config.json`, `result.json` of a branch and the like, `live.json`."""

CHECKPOINT_BYTES = 64 << 20
"""`checkpoint.json`, which holds the whole context."""

ARTIFACT_BYTES = 64 << 20
"""A context value in `artifacts/`."""

STATUS_BYTES = 1 << 20
"""A `status.json` that a stage leaves."""

LINE_BYTES = 16 << 20
"""A line of `progress.ndjson`. A longer one is passed over, as a torn one is; the last event is looked for in so many bytes."""

STREAM_BYTES = 1 << 30
"""A whole `progress.ndjson`, which is read line by line. Of a larger one only the end is read, for appending to it."""

TEXT_BYTES = 16 << 20
"""A pipeline, a prompt file, `workflow.toml`, `steer.md`, the file that ends a loop."""

JSON_DEPTH = 100
"""Lists and objects in one another, in any JSON of these files."""

IN_WORDS: dict[str, int] = {
    "RECORD_BYTES": RECORD_BYTES,
    "CHECKPOINT_BYTES": CHECKPOINT_BYTES,
    "ARTIFACT_BYTES": ARTIFACT_BYTES,
    "STATUS_BYTES": STATUS_BYTES,
    "LINE_BYTES": LINE_BYTES,
    "STREAM_BYTES": STREAM_BYTES,
    "TEXT_BYTES": TEXT_BYTES,
    "JSON_DEPTH": JSON_DEPTH,
}


def megabytes(size_bytes: int) -> str:
    """``16 MiB``, ``1 GiB``."""
    return f"{size_bytes >> 30} GiB" if size_bytes >= 1 << 30 else f"{size_bytes >> 20} MiB"
