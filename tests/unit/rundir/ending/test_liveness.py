"""Which runs count as unended and held by nobody, from disk alone."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest
from starts import open_start

from kilroy_engine.errors import CorruptRecord
from kilroy_engine.events import HumanGateOpened, RunStarted
from kilroy_engine.rundir.ending.finalize import end_of, end_run
from kilroy_engine.rundir.ending.liveness import OwnerPlace, examine, run_directories
from kilroy_engine.rundir.ending.starts import OpenStart
from kilroy_engine.rundir.files.layout import RunDirectory
from kilroy_engine.rundir.files.locks import is_held, turn
from kilroy_engine.rundir.ownership.ownership import Owner


def begin(path: Path) -> OpenStart:
    return open_start(RunDirectory(path), RunStarted(flow_run_id="f1", graph_name="g", goal=""), run_id="r1")


def rewrite_lock(run: RunDirectory, age_s: float = 0, **changes: object) -> None:
    run.lock.write_text(json.dumps(json.loads(run.lock.read_text()) | changes))
    os.utime(run.lock, (time.time() - age_s,) * 2)


def test_a_run_at_work_is_nobodys_to_end_and_an_abandoned_one_is(tmp_path: Path) -> None:
    """While the owner holds its lock there is nothing to find; once it is gone the run is found with owner and silence."""
    start = begin(tmp_path)
    assert examine(start.run) is None
    start.close()
    found = examine(start.run)
    assert found is not None
    assert (found.owner, found.pid, found.place) == (Owner("f1", 1), os.getpid(), OwnerPlace.HERE)
    assert 0 <= found.silent_s < 60


def test_an_ended_run_and_an_empty_folder_are_not_found(tmp_path: Path) -> None:
    """Terminal line and final.json of the current start: over. No start at all: nothing to end."""
    start = begin(tmp_path / "r1")
    start.close()
    end_run(start.run, start.owner)
    assert examine(start.run) is None
    (tmp_path / "empty").mkdir()
    assert examine(RunDirectory(tmp_path / "empty")) is None


def test_a_run_that_another_process_is_ending_is_left_to_it(tmp_path: Path) -> None:
    """Whoever holds end.lock is writing the end."""
    start = begin(tmp_path)
    start.close()
    with turn(start.run.end_lock, wait_s=1):
        assert is_held(start.run.end_lock)
        assert examine(start.run) is None
    assert examine(start.run) is not None


def test_a_half_written_end_is_found_as_such(tmp_path: Path) -> None:
    """final.json of this start without the terminal line."""
    start = begin(tmp_path)
    start.close()
    end_of(start.run, start.owner).write(start.run)
    found = examine(start.run)
    assert found is not None
    assert found.half_written


def test_a_new_start_that_died_before_its_first_line_is_found(tmp_path: Path) -> None:
    """The last line is the end of start 1, but the lock says that start 2 has taken the directory."""
    start = begin(tmp_path)
    start.close()
    end_run(start.run, start.owner)
    rewrite_lock(start.run, start=2, flow_run_id="f2")
    found = examine(start.run)
    assert found is not None
    assert (found.owner, found.half_written) == (Owner("f2", 2), False)


@pytest.mark.parametrize(
    ("changes", "age_s", "place"),
    [
        ({"host": "elsewhere"}, 0, None),
        ({"host": "elsewhere"}, 400, OwnerPlace.ELSEWHERE),
        ({"boot_id": "another"}, 400, OwnerPlace.EARLIER_BOOT),
    ],
)
def test_of_another_machine_only_the_heartbeat_is_known(
    tmp_path: Path, changes: dict[str, object], age_s: float, place: OwnerPlace | None
) -> None:
    """A lock touched lately by another machine is alive; one that is not tells how long ago it was."""
    start = begin(tmp_path)
    start.close()
    rewrite_lock(start.run, age_s, **changes)
    found = examine(start.run)
    assert (found.place if found else None) == place
    assert found is None or found.heartbeat_age_s >= 399


def test_an_open_gate_is_told(tmp_path: Path) -> None:
    """The last event is an open human gate: someone may be asked in Prefect."""
    start = begin(tmp_path)
    start.progress.append(HumanGateOpened(node_id="ask", visit=1, question="?", choices=("yes",)))
    start.close()
    found = examine(start.run)
    assert found is not None
    assert found.waits_for_person


def test_a_damaged_lock_is_told_and_the_latest_directories_come_first(tmp_path: Path) -> None:
    """Damage is for a person; the order is that of the last change, and hidden folders are no runs."""
    for age_s, name in enumerate(("new", "old", ".removing-x")):
        start = begin(tmp_path / name)
        start.close()
        os.utime(tmp_path / name, (time.time() - age_s * 10,) * 2)
    assert [run.path.name for run in run_directories(tmp_path)] == ["new", "old"]
    assert len(run_directories(tmp_path, limit=1)) == 1
    assert run_directories(tmp_path / "missing") == []
    (tmp_path / "old" / "run.lock.json").write_text("{")
    with pytest.raises(CorruptRecord, match=r"run\.lock\.json is damaged"):
        examine(RunDirectory(tmp_path / "old"))
