"""Who owns a run, and whether the owner lives."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from kilroy_engine.errors import RunAlreadyOwned
from kilroy_engine.rundir.files.layout import RunDirectory
from kilroy_engine.rundir.files.machine import boot_id, host_name, is_same_process, process_start_time
from kilroy_engine.rundir.files.records import RunLockRecord
from kilroy_engine.rundir.ownership import ownership
from kilroy_engine.rundir.ownership.ownership import (
    Owner,
    RunLock,
    current_owner,
    find_record,
    owner_alive,
    run_id_in,
)

HOLD = """
import sys
from pathlib import Path
from kilroy_engine.rundir.files.layout import RunDirectory
from kilroy_engine.rundir.ownership.ownership import Owner, RunLock
lock = RunLock.acquire(RunDirectory(Path(sys.argv[1])))
lock.record(Owner("flow-1", 1), "r1")
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    return RunDirectory(tmp_path)


def test_a_live_owner_in_another_process_is_named_and_a_dead_one_is_followed(run: RunDirectory) -> None:
    """The kernel gives the lock free when the owner is killed; the record stays and tells the next start's number."""
    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(run.path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    with holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        assert owner_alive(run)
        with pytest.raises(RunAlreadyOwned, match=f"already owned by a live process \\(pid={holder.pid}\\)") as caught:
            RunLock.acquire(run)
        assert caught.value.pid == holder.pid
        holder.send_signal(signal.SIGKILL)
        holder.wait()
    assert not owner_alive(run)
    assert current_owner(run) == Owner("flow-1", 1)
    lock = RunLock.acquire(run)
    assert lock.previous is not None
    assert lock.previous.pid == holder.pid
    lock.release()


def test_two_flow_runs_of_one_process_cannot_share_a_run(run: RunDirectory) -> None:
    """The lock is the start's, not the process's."""
    lock = RunLock.acquire(run)
    with pytest.raises(RunAlreadyOwned):
        RunLock.acquire(run)
    lock.release()
    RunLock.acquire(run).release()


def test_looking_whether_the_owner_lives_does_not_take_the_run_from_a_start(run: RunDirectory) -> None:
    """A look lasts microseconds, and acquiring waits for it."""
    lock = RunLock.acquire(run)
    lock.release()
    for _ in range(200):
        assert not owner_alive(run)
        RunLock.acquire(run).release()


def test_the_record_has_kilroys_keys_and_names_this_process(run: RunDirectory) -> None:
    """pid, pid_start_time (clock ticks since boot), run_id, acquired_at; then host, boot_id, flow_run_id, start."""
    lock = RunLock.acquire(run)
    record = lock.record(Owner("flow-1", 2), "r1")
    lock.release()
    assert find_record(run) == record
    assert list(record.to_json()) == [
        "pid",
        "pid_start_time",
        "run_id",
        "acquired_at",
        "host",
        "boot_id",
        "flow_run_id",
        "start",
    ]
    assert (record.pid, record.host, record.boot_id) == (os.getpid(), host_name(), boot_id())
    stat = Path("/proc/self/stat")
    if stat.exists():
        assert record.pid_start_time == int(stat.read_text().rsplit(") ", 1)[1].split()[19])
    assert run_id_in(run) == "r1"
    assert run_id_in(RunDirectory(run.path / "elsewhere")) == "elsewhere"


def test_a_shorter_record_replaces_a_longer_one_whole(run: RunDirectory) -> None:
    """It is written in place, because the lock is the file's; nothing of the old one is left behind."""
    lock = RunLock.acquire(run)
    lock.record(Owner("a-very-long-flow-run-id" * 10, 1), "r1")
    inode = run.lock.stat().st_ino
    lock.record(Owner("short", 2), "r1")
    lock.release()
    assert current_owner(run) == Owner("short", 2)
    assert run.lock.stat().st_ino == inode


def test_an_owner_on_another_machine_lives_while_it_touches_its_lock(run: RunDirectory) -> None:
    """Across machines only the age of the touch tells."""
    there = RunLockRecord(pid=1, acquired_at=ownership.now(), host="elsewhere", boot_id="b", flow_run_id="f")
    there.write(run)
    assert owner_alive(run)
    with pytest.raises(RunAlreadyOwned, match="on elsewhere"):
        RunLock.acquire(run)
    old = run.lock.stat().st_mtime - ownership.STALE_AFTER_S - 1
    os.utime(run.lock, (old, old))
    assert not owner_alive(run)
    RunLock.acquire(run).release()


def test_a_touch_is_seen_by_others(run: RunDirectory) -> None:
    """Touching changes the file's time and nothing else."""
    lock = RunLock.acquire(run)
    lock.record(Owner("f", 1), "r1")
    content = run.lock.read_bytes()
    os.utime(run.lock, (0, 0))
    lock.touch()
    assert run.lock.stat().st_mtime > 1_000_000_000
    assert run.lock.read_bytes() == content
    lock.release()


def test_a_run_that_never_started_has_no_owner(run: RunDirectory) -> None:
    """No lock file, or an empty one from a start that died at once."""
    assert current_owner(run) is None
    assert not owner_alive(run)
    run.lock.touch()
    assert current_owner(run) is None


def test_a_process_is_told_from_a_later_one_with_its_id() -> None:
    """Start times differ; a missing process has none."""
    start = process_start_time(os.getpid())
    assert is_same_process(os.getpid(), start)
    assert not is_same_process(os.getpid(), start + 1)
    child = subprocess.Popen([sys.executable, "-c", "pass"])
    child.wait()
    assert process_start_time(child.pid) == 0
    assert not is_same_process(child.pid, 0)
