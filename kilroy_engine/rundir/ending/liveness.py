"""Finds runs without an end: who owns them, on which machine, and how long they have been silent. Reads files only.

On the owner's machine its ``flock`` decides: the kernel drops the lock when the process dies. Shared storage need not carry
locks, so an owner on another machine counts as alive while it touches the lock file.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from kilroy_engine.errors import InvalidInput
from kilroy_engine.events import TERMINAL_EVENTS, HumanGateOpened
from kilroy_engine.rundir.files.layout import RunDirectory, flow_run_id_of
from kilroy_engine.rundir.files.locks import is_held
from kilroy_engine.rundir.files.machine import boot_id, host_name
from kilroy_engine.rundir.files.records import FinalOutcome, RunLockRecord
from kilroy_engine.rundir.ownership.ownership import Owner, find_record, owner_alive
from kilroy_engine.rundir.stream.progress import last_event


class OwnerPlace(StrEnum):
    """Where a run's owner was last seen, from the view of this machine."""

    HERE = "on this machine"
    EARLIER_BOOT = "on this machine before it was started anew"
    ELSEWHERE = "on another machine"


@dataclass(frozen=True, slots=True)
class UnendedRun:
    """A run without an end whose owner is gone and that no process is ending.

    - ``silent_s``: seconds since the last change of the run's main files.
    - ``heartbeat_age_s``: seconds since the owner last touched its lock file.
    - ``waits_for_person``: the last event is an open human gate.
    - ``half_written``: ``final.json`` of this start exists, and a later step of the end is missing.
    """

    run: RunDirectory
    owner: Owner
    pid: int
    host: str
    place: OwnerPlace
    silent_s: float
    heartbeat_age_s: float
    waits_for_person: bool
    half_written: bool


def run_directories(root: Path, *, limit: int | None = None) -> list[RunDirectory]:
    """The run directories below ``root``, the latest changed first, ``limit`` at most. Empty where ``root`` does not exist."""
    folders: list[tuple[float, str]] = []
    try:
        with os.scandir(root) as entries:
            for entry in filter(_may_be_a_run, entries):
                try:
                    folders.append((entry.stat(follow_symlinks=False).st_mtime, entry.path))
                except OSError:
                    continue  # removed just now
    except OSError:
        return []
    return [RunDirectory(Path(path)) for _, path in sorted(folders, reverse=True)[:limit]]


def _may_be_a_run(entry: os.DirEntry[str]) -> bool:
    return not entry.name.startswith(".") and entry.is_dir(follow_symlinks=False)


def examine(run: RunDirectory) -> UnendedRun | None:
    """Describes a run that has not ended, that nobody owns and that nobody is ending. None for any other run.

    Raises:
        RunDirectoryError: The stream, the lock file's record or ``final.json`` is damaged or cannot be read.
    """
    line, record = last_event(run.progress), find_record(run)
    if record is None and line is None:
        return None  # no start has taken this directory
    start = record.start if record else 1
    final = FinalOutcome.find(run)
    has_end = final is not None and final.start == start
    ended = line is not None and line.get("event") in TERMINAL_EVENTS and line.get("start", 1) == start
    if (ended and has_end) or owner_alive(run) or is_held(run.end_lock):
        return None
    now = time.time()
    return UnendedRun(
        run=run,
        owner=Owner(record.flow_run_id if record else _flow_run_id_from(run), start),
        pid=record.pid if record else 0,
        host=record.host if record else "",
        place=_place(record),
        silent_s=now - max(_times(run), default=now),
        heartbeat_age_s=now - max(_times(run, (run.lock,)), default=0.0),
        waits_for_person=line is not None and line.get("event") == HumanGateOpened.event,
        half_written=has_end,
    )


def _place(record: RunLockRecord | None) -> OwnerPlace:
    if record is None or (record.host, record.boot_id) == (host_name(), boot_id()):
        return OwnerPlace.HERE
    return OwnerPlace.EARLIER_BOOT if record.host == host_name() else OwnerPlace.ELSEWHERE


def _times(run: RunDirectory, files: tuple[Path, ...] = ()) -> Iterator[float]:
    """When each file was last written, in seconds since the epoch. Without ``files``: the run's main files."""
    latest = run.ending_directories()[0]
    for file in files or (run.path, run.lock, run.progress, run.conclusion, run.final, run.checkpoint, latest.progress):
        try:
            yield file.lstat().st_mtime
        except OSError:
            continue  # not written yet


def _flow_run_id_from(run: RunDirectory) -> str:
    """The id of the flow run whose ULID form names the directory; "" where a person chose the run id."""
    try:
        return str(flow_run_id_of(run.path.name))
    except InvalidInput:
        return ""
