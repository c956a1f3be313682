"""Records: what is written, what is read back, and damage that is told."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from kilroy_engine.errors import CorruptRecord, RunDirectoryError
from kilroy_engine.rundir.files.layout import RunDirectory
from kilroy_engine.rundir.files.records import CancelRequest, Conclusion, FinalOutcome, Manifest, Record, RunLockRecord
from kilroy_engine.traversal.outcome import FinalStatus

AT = datetime(2026, 1, 2, 3, 4, 5, 100_000, tzinfo=UTC)
RECORDS = [
    Manifest(run_id="r1", started_at=AT, flow_run_id="f", outputs=["a"], labels={"k": "v"}),
    FinalOutcome(timestamp=AT, status=FinalStatus.FAIL, run_id="r1", failure_reason="x", start=3),
    RunLockRecord(pid=7, acquired_at=AT, host="h", start=2),
    Conclusion(status=FinalStatus.CANCELED, reason="canceled: by kilroy stop", start=2),
    CancelRequest(source="by kilroy stop", at=AT),
]


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: type(record).__name__)
def test_a_record_is_read_back_as_it_was_written(tmp_path: Path, record: Record) -> None:
    """Equal after a round trip; where there is no file, ``find`` says None and ``read`` names it."""
    run = RunDirectory(tmp_path)
    assert type(record).find(run) is None
    with pytest.raises(RunDirectoryError, match=r"\.json does not exist"):
        type(record).read(run)
    record.write(run)
    assert type(record).read(run) == record


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: type(record).__name__)
@pytest.mark.parametrize("damage", ["", "{", "[]", "{}"])
def test_a_damaged_record_is_told_with_the_file_and_what_to_do(tmp_path: Path, record: Record, damage: str) -> None:
    """The error names the file and the way out."""
    run = RunDirectory(tmp_path)
    path = type(record).path_in(run)
    path.write_text(damage)
    with pytest.raises(CorruptRecord) as caught:
        type(record).find(run)
    assert str(path) in str(caught.value)
    assert type(record).mend in str(caught.value)


def test_a_final_json_of_kilroys_own_is_read(tmp_path: Path) -> None:
    """Nine digits of fraction, none of our keys, and keys that nobody knows."""
    run = RunDirectory(tmp_path)
    run.final.write_text(
        '{"timestamp":"2026-01-02T03:04:05.100000009Z","status":"canceled","run_id":"01J","final_git_commit_sha":"",'
        '"cxdb_context_id":"","cxdb_head_turn_id":"","new_key":[1]}'
    )
    final = FinalOutcome.read(run)
    assert (final.timestamp, final.status, final.start, final.failure_reason) == (AT, FinalStatus.CANCELED, 1, "")


def test_the_manifest_has_kilroys_keys_sorted(tmp_path: Path) -> None:
    """Kilroy writes a sorted map; optional keys are left out when empty."""
    run = RunDirectory(tmp_path)
    Manifest(run_id="r1", started_at=AT).write(run)
    written = json.loads(run.manifest.read_bytes())
    kilroy = {
        "base_sha", "cxdb", "goal", "graph_dot", "graph_name", "kilroy_v1", "logs_root", "modeldb", "repo_path", "run_branch",
        "run_config_path", "run_id", "started_at", "worktree",
    }  # fmt: skip
    ours = {"flow_run_id", "flow_run_name", "deployment_id", "prefect_ui_url", "engine_version", "outputs", "graph_file"}
    assert set(written) == kilroy | ours
    assert list(written) == sorted(written)
    assert written["started_at"] == "2026-01-02T03:04:05.1Z"
