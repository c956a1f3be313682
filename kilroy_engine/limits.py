"""Upper limits for reading files that a stage can write to. The reference page of the run directory shows them as a table."""

from __future__ import annotations

RECORD_BYTES = 16 << 20
CHECKPOINT_BYTES = 64 << 20
ARTIFACT_BYTES = 64 << 20
STATUS_BYTES = 1 << 20
LINE_BYTES = 16 << 20
STREAM_BYTES = 1 << 30
TEXT_BYTES = 16 << 20
JSON_DEPTH = 100


def megabytes(size_bytes: int) -> str:
    """The size for people: ``16 MiB``, ``1 GiB``. Parts of a unit are dropped."""
    return f"{size_bytes >> 30} GiB" if size_bytes >= 1 << 30 else f"{size_bytes >> 20} MiB"


TABLE: tuple[tuple[str, str], ...] = (
    ("`manifest.json`, `final.json`, `run_config.json`, `live.json` and the other records", megabytes(RECORD_BYTES)),
    ("`checkpoint.json`, which holds the whole context", megabytes(CHECKPOINT_BYTES)),
    ("a context value in `artifacts/`", megabytes(ARTIFACT_BYTES)),
    ("a `status.json` that a stage leaves", megabytes(STATUS_BYTES)),
    ("a line of `progress.ndjson`; a longer one is passed over, as a torn one is", megabytes(LINE_BYTES)),
    ("a whole `progress.ndjson`, which is read line by line; a larger one is appended to and no more", megabytes(STREAM_BYTES)),
    ("a pipeline, a prompt file, `workflow.toml`, `steer.md`, a file that ends a loop", megabytes(TEXT_BYTES)),
    ("lists and objects in one another, in any JSON of these", f"{JSON_DEPTH} deep"),
)
"""Rows of the reference page: the file or value that is limited, and its limit."""
