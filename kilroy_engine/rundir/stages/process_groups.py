"""Records a run's child processes in their stage directories, and ends them when the run ends.

A child process can outlive the engine that started it. The process that ends the run finds the child by its record. A record
names the child by process id and start time, so that a later process with the same id gets no signal.
"""

from __future__ import annotations

import fnmatch
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from kilroy_engine.errors import RunDirectoryError
from kilroy_engine.events.times import now, rfc3339
from kilroy_engine.rundir.files.atomic import write_json
from kilroy_engine.rundir.files.layout import RunDirectory
from kilroy_engine.rundir.files.machine import boot_id, host_name, process_start_time
from kilroy_engine.rundir.files.regular import read_file

RECORD_PATTERN = "process-*.json"
_SKIPPED_FOLDERS = frozenset({"worktree", "artifacts", "outputs", "input_snapshot"})
_POLL_S = 0.02
_KILL_S = 1.0


class ProcessRecord(BaseModel):
    """`<node_id>/process-<pid>.json`: a process group that a stage started. The file stays after the group's end."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    pid: int = Field(gt=1, description="process id of the group's leader")
    pgid: int = Field(gt=1, description="id of the group")
    start_time: int = Field(description="when the leader started, in clock ticks since boot (Linux)")
    started_at: str = Field(default="", description="the same as a time, RFC 3339")
    host: str = Field(description="machine")
    boot_id: str = Field(description="boot of that machine")


@dataclass(frozen=True, slots=True)
class EndedGroup:
    """A process group that the engine ended. ``pids`` are the processes that got a signal. ``forced``: SIGKILL was needed."""

    pgid: int
    pids: tuple[int, ...]
    forced: bool


def record_process(stage_dir: Path, process: subprocess.Popen[bytes] | subprocess.Popen[str]) -> ProcessRecord:
    """Records a child that leads its own group and session (``start_new_session=True``). Called right after the start."""
    record = ProcessRecord(
        pid=process.pid,
        pgid=process.pid,
        start_time=process_start_time(process.pid),
        started_at=rfc3339(now()),
        host=host_name(),
        boot_id=boot_id(),
    )
    write_json(stage_dir / f"process-{process.pid}.json", record.model_dump(), durable=False)
    return record


def end_group(
    process: subprocess.Popen[bytes] | subprocess.Popen[str],
    *,
    grace_s: float,
    first: signal.Signals = signal.SIGTERM,
    meanwhile: Callable[[], None] = lambda: None,
) -> EndedGroup | None:
    """Ends a child of this process: its process group, and descendants that left the group. None when none of them was alive.

    ``first`` is the polite signal. ``meanwhile`` is called again and again during the grace, so that the caller can read what
    the child still prints. The child is not waited for: the caller must do so.
    """
    ended = _end_groups({process.pid: process_start_time(process.pid)}, grace_s=grace_s, first=first, meanwhile=meanwhile)
    return ended[0] if ended else None


def end_marked(variable: str, value: str, *, grace_s: float) -> tuple[int, ...]:
    """Ends every process of this user whose environment has ``variable=value``, wherever it has gone; their ids.

    So a daemon is found that left session and group and whose parent is gone. Who wiped its environment is not found.
    """
    marked = _marked(f"{variable}={value}".encode())
    _signal(marked, signal.SIGTERM)
    _wait_gone(marked, grace_s)
    _signal([process for process in marked if _alive(process)], signal.SIGKILL)
    _wait_gone(marked, _KILL_S)
    return tuple(process.pid for process in marked)


def _marked(entry: bytes) -> list[psutil.Process]:
    """Live processes with ``entry`` in their environment, as it was when their program began."""
    found: list[psutil.Process] = []
    for pid in psutil.pids():
        try:
            if pid != os.getpid() and entry in _environment_of(pid):
                found.append(psutil.Process(pid))
        except (psutil.Error, OSError):
            continue  # it ended meanwhile, or is another user's
    return found


def _environment_of(pid: int) -> list[bytes]:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except FileNotFoundError:
        return [os.fsencode(f"{name}={value}") for name, value in psutil.Process(pid).environ().items()]  # macOS


def end_process_groups(run: RunDirectory, *, grace_s: float) -> tuple[EndedGroup, ...]:
    """Ends every process group that the run's stages recorded on this machine: SIGTERM, then SIGKILL after ``grace_s``.

    All groups get their signal at once, so that the call takes little more than ``grace_s`` seconds. The result leaves out
    groups that are gone, and groups of another machine or of an earlier boot.
    """
    here = (host_name(), boot_id())
    return _end_groups(
        {record.pgid: record.start_time for record in process_records(run) if (record.host, record.boot_id) == here},
        grace_s=grace_s,
    )


def any_alive(stage_dir: Path) -> bool:
    """Whether a process of the stage lives on this machine. Processes of earlier visits and of child pipelines count too."""
    here = (host_name(), boot_id())
    records = (record for record in _records_below(stage_dir) if (record.host, record.boot_id) == here)
    return bool(_live_members({record.pgid: record.start_time for record in records}))


def process_records(run: RunDirectory) -> Iterator[ProcessRecord]:
    """The records in all stage directories, with those of branches, child pipelines, restarts and earlier visits."""
    return _records_below(run.path)


def _records_below(path: Path) -> Iterator[ProcessRecord]:
    for folder, subfolders, names in os.walk(path):
        subfolders[:] = [name for name in subfolders if name not in _SKIPPED_FOLDERS]
        for name in fnmatch.filter(names, RECORD_PATTERN):
            record = _read(Path(folder, name))
            if record is not None:
                yield record


def _read(path: Path) -> ProcessRecord | None:
    try:
        return ProcessRecord.model_validate_json(read_file(path) or b"")
    except (RunDirectoryError, ValidationError):
        return None  # a damaged record must not keep the others' processes alive


def _end_groups(
    starts: dict[int, int],
    *,
    grace_s: float,
    first: signal.Signals = signal.SIGTERM,
    meanwhile: Callable[[], None] = lambda: None,
) -> tuple[EndedGroup, ...]:
    """Ends process groups. ``starts`` maps each group's id to the start time of its leader."""
    groups = _live_members(starts)
    if not groups:
        return ()
    everyone = [process for members in groups.values() for process in members]
    _signal(everyone, first)
    _wait_gone(everyone, grace_s, meanwhile)
    ended: list[EndedGroup] = []
    for pgid, members in groups.items():
        left = [process for process in members if _alive(process)]
        forced = bool(left)
        deadline = time.monotonic() + _KILL_S
        while left and time.monotonic() < deadline:
            _signal(left, signal.SIGKILL)
            _wait_gone(left, _KILL_S)
            # A member may have forked between the look and the signal.
            left = _live_members({pgid: starts[pgid]}).get(pgid, [])
        ended.append(EndedGroup(pgid, tuple(process.pid for process in members), forced))
    return tuple(ended)


def _live_members(starts: dict[int, int]) -> dict[int, list[psutil.Process]]:
    """The live processes of each group and their descendants. A group whose id now belongs to another process is left out."""
    found: dict[int, dict[int, psutil.Process]] = {}
    for process in psutil.process_iter() if starts else ():
        try:
            pgid, session = os.getpgid(process.pid), os.getsid(process.pid)
        except OSError:
            continue  # it ended meanwhile
        # Each recorded group is its own session. While a group has members, the kernel gives its id to no new process.
        if pgid == session and pgid in starts and pgid != os.getpgrp() and _is_ours(process.pid, pgid, starts[pgid]):
            for member in (process, *_descendants(process)):
                found.setdefault(pgid, {})[member.pid] = member
    alive = {pgid: [process for process in members.values() if _alive(process)] for pgid, members in found.items()}
    return {pgid: members for pgid, members in alive.items() if members}


def _is_ours(pid: int, pgid: int, start_time: int) -> bool:
    leader_start = process_start_time(pgid)
    return start_time > 0 and leader_start in {0, start_time} and process_start_time(pid) >= start_time


def _descendants(process: psutil.Process) -> list[psutil.Process]:
    try:
        return process.children(recursive=True)
    except psutil.Error:
        return []  # it ended meanwhile


def _signal(processes: list[psutil.Process], number: signal.Signals) -> None:
    for process in processes:
        try:
            process.send_signal(number)  # psutil compares the start time first
        except psutil.Error:
            continue  # it ended meanwhile, or runs as another user: the run ends all the same


def _wait_gone(processes: list[psutil.Process], timeout_s: float, meanwhile: Callable[[], None] = lambda: None) -> None:
    """Waits up to ``timeout_s`` seconds until all processes are gone, calling ``meanwhile`` in between. No exit code is read:
    the starter of a process needs the code.
    """
    deadline = time.monotonic() + timeout_s
    while any(_alive(process) for process in processes) and time.monotonic() < deadline:
        meanwhile()
        time.sleep(_POLL_S)


def _alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False
