"""Ending what a run has started: groups, descendants that left them, and never anybody else."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from kilroy_engine.rundir.files.atomic import write_json
from kilroy_engine.rundir.files.layout import RunDirectory
from kilroy_engine.rundir.stages.process_groups import any_alive, end_group, end_process_groups, process_records, record_process

SLEEP = "import time; time.sleep(300)"
STUBBORN = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('ready', flush=True); time.sleep(300)"


Spawn = Callable[[str], "subprocess.Popen[bytes]"]


@pytest.fixture
def spawn() -> Iterator[Spawn]:
    """Starts children in groups of their own; they and their groups are gone after the test, whatever it does."""
    children: list[subprocess.Popen[bytes]] = []

    def start(code: str) -> subprocess.Popen[bytes]:
        child = subprocess.Popen([sys.executable, "-c", code], start_new_session=True, stdout=subprocess.PIPE)
        children.append(child)
        return child

    yield start
    for child in children:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        with child:  # closes its pipe and waits for it
            pass


def family(child: str = "", then: str = "time.sleep(300)") -> str:
    """A leader that starts a child (with ``subprocess`` arguments ``child``), prints its id, and goes on with ``then``."""
    return (
        "import subprocess, sys, time\n"
        f"c = subprocess.Popen([sys.executable, '-c', {SLEEP!r}], stdout=subprocess.DEVNULL, {child})\n"
        "print(c.pid, flush=True)\n"
        f"{then}\n"
    )


def first_line(process: subprocess.Popen[bytes]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().decode().strip()


def gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def soon(condition: object, deadline_s: float = 10) -> bool:
    end = time.monotonic() + deadline_s
    while time.monotonic() < end:
        if condition():  # type: ignore[operator]
            return True
        time.sleep(0.01)
    return False


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    directory = RunDirectory(tmp_path)
    directory.stage("a").mkdir()
    return directory


@pytest.mark.parametrize("child", ["", "start_new_session=True"], ids=["in the group", "in a session of its own"])
def test_a_group_and_its_descendants_are_ended(run: RunDirectory, spawn: Spawn, child: str) -> None:
    """Everything below the leader goes, also what left the group while the leader still lives."""
    leader = spawn(family(child))
    record_process(run.stage("a"), leader)
    child_pid = int(first_line(leader))
    (ended,) = end_process_groups(run, grace_s=5)
    assert ended.pgid == leader.pid
    assert set(ended.pids) == {leader.pid, child_pid}
    assert not ended.forced
    assert leader.wait(timeout=10) == -signal.SIGTERM
    assert soon(lambda: gone(child_pid))
    assert end_process_groups(run, grace_s=5) == ()


def test_a_group_whose_leader_is_gone_is_ended(run: RunDirectory, spawn: Spawn) -> None:
    """A server that a tool left in the background belongs to the run."""
    leader = spawn(family(then="c.returncode = 0  # nobody waits for the child"))
    record_process(run.stage("a"), leader)
    child_pid = int(first_line(leader))
    leader.wait(timeout=10)
    assert not gone(child_pid)
    (ended,) = end_process_groups(run, grace_s=5)
    assert ended.pids == (child_pid,)
    assert soon(lambda: gone(child_pid))


def test_a_process_that_ignores_the_polite_signal_is_killed(run: RunDirectory, spawn: Spawn) -> None:
    """SIGTERM, then SIGKILL when the grace is over."""
    stubborn = spawn(STUBBORN)
    record_process(run.stage("a"), stubborn)
    assert first_line(stubborn) == "ready"
    (ended,) = end_process_groups(run, grace_s=0.2)
    assert ended.forced
    assert stubborn.wait(timeout=10) == -signal.SIGKILL


def test_a_reused_process_id_is_never_touched(run: RunDirectory, spawn: Spawn) -> None:
    """A record whose start time, boot or machine is another's leads to nobody."""
    stranger = spawn(SLEEP)
    record = record_process(run.stage("a"), stranger)
    path = run.stage("a") / f"process-{stranger.pid}.json"
    others = [
        {"start_time": record.start_time - 1},
        {"start_time": 0},
        {"boot_id": "an earlier boot"},
        {"host": "another machine"},
    ]
    for change in others:
        write_json(path, {**record.model_dump(), **change})
        assert end_process_groups(run, grace_s=5) == ()
    assert stranger.poll() is None
    write_json(path, record.model_dump())
    assert len(end_process_groups(run, grace_s=5)) == 1
    stranger.wait(timeout=10)


def test_records_are_found_wherever_a_stage_can_be(run: RunDirectory) -> None:
    """Earlier visits and attempts, branches, children and restarts; not in work folders; damaged ones are passed over."""
    folders = ["a/visit_1", "parallel/fan/pass1/01-b/c", "boss/child/d", "restart-1/e", "a", "worktree/f"]
    record = {"pid": 4_000_000, "pgid": 4_000_000, "start_time": 1, "host": "h", "boot_id": "b"}
    for folder in folders:
        (run.path / folder).mkdir(parents=True, exist_ok=True)
        write_json(run.path / folder / "process-4000000.json", record)
    (run.path / "a" / "process-1.json").write_text("{")
    assert len(list(process_records(run))) == 5


def test_the_exit_code_of_a_child_is_left_to_who_started_it(spawn: Spawn) -> None:
    """Ending a group does not reap: the code that waits for the child still sees the signal."""
    child = spawn(SLEEP)
    ended = end_group(child, grace_s=5)
    assert ended is not None
    assert child.wait(timeout=10) == -signal.SIGTERM
    assert end_group(child, grace_s=5) is None


def test_a_stage_knows_whether_something_that_it_started_still_lives(tmp_path: Path, spawn: Spawn) -> None:
    """Also what its command left behind: the leader of the group is gone, a member works on."""
    run = RunDirectory(tmp_path)
    stage_dir = run.stage("a")
    stage_dir.mkdir()
    assert not any_alive(stage_dir)

    leader = spawn(family(then=""))
    record_process(stage_dir, leader)
    child = int(first_line(leader))
    leader.wait()
    assert any_alive(stage_dir)
    assert not any_alive(run.stage("b"))

    os.kill(child, signal.SIGKILL)
    assert soon(lambda: not any_alive(stage_dir))
