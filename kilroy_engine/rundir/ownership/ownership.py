"""Who owns a run: the lock file that the flow process holds for its whole life, and the record inside."""

from __future__ import annotations

import logging
import os
import time
from dataclasses import dataclass

from kilroy_engine.errors import CorruptRecord, RunAlreadyOwned, RunDirectoryError
from kilroy_engine.events.encoding import indented
from kilroy_engine.events.times import now
from kilroy_engine.locks import try_lock
from kilroy_engine.rundir.files.failpoints import failpoint
from kilroy_engine.rundir.files.layout import RunDirectory
from kilroy_engine.rundir.files.locks import is_held, open_lock
from kilroy_engine.rundir.files.machine import boot_id, host_name, process_start_time
from kilroy_engine.rundir.files.records import RunLockRecord
from kilroy_engine.rundir.files.regular import read_file

TOUCH_INTERVAL_S = 10.0
"""How often the owner touches the lock file."""

STALE_AFTER_S = 60.0
"""If the lock file of a run on another machine was not touched for so long, the owner counts as gone."""

_log = logging.getLogger(__name__)
_TRIES = 20
_PAUSE_S = 0.025
_LOOK_S = 0.5
"""How long to wait for the lock. A reader that checks whether the owner lives holds the lock for microseconds."""


@dataclass(frozen=True, slots=True)
class Owner:
    """One start of a run: the id of its flow run and the start's number."""

    flow_run_id: str
    start: int


class RunLock:
    """The run's lock. This process holds the lock until :meth:`release` or until the process ends.

    ``previous`` is the record of the start before, None in a fresh directory.
    """

    def __init__(self, run: RunDirectory, descriptor: int, previous: RunLockRecord | None) -> None:
        self.run = run
        self._descriptor = descriptor
        self._content = b""
        self.previous = previous

    @classmethod
    def acquire(cls, run: RunDirectory) -> RunLock:
        """Takes the lock. The record in the file stays until :meth:`record` replaces it.

        Raises:
            RunAlreadyOwned: Another process holds the lock, or another flow run in this process.
            CorruptRecord: The record is damaged.
        """
        descriptor = open_lock(run.lock)
        try:
            # Two machines may not see each other's locks: the other one's owner lives as long as it touches the file.
            taken = try_lock(descriptor, wait_s=_LOOK_S) and not _alive_elsewhere(run)
            previous = find_record(run) if taken else None
        except BaseException:
            os.close(descriptor)
            raise
        if not taken:
            os.close(descriptor)
            raise _owned(run)
        return cls(run, descriptor, previous)

    def record(self, owner: Owner, run_id: str) -> RunLockRecord:
        """Writes the run's new owner into the lock file. The file is never replaced, because the lock is on the open file."""
        pid = os.getpid()
        record = RunLockRecord(
            pid=pid,
            pid_start_time=process_start_time(pid),
            run_id=run_id,
            acquired_at=now(),
            host=host_name(),
            boot_id=boot_id(),
            flow_run_id=owner.flow_run_id,
            start=owner.start,
        )
        # One write, padded to the old length, replaces the whole record: no reader and no crash leaves half of it.
        content = indented(record.to_json()) + b"\n"
        self._content = content.ljust(os.fstat(self._descriptor).st_size)
        failpoint("run.lock.json", "before")
        self._write()
        failpoint("run.lock.json", "after")
        return record

    def restore(self) -> None:
        """Writes the lock file again where a stage has removed, replaced or overwritten it. Called repeatedly while the run
        works: without the record the run has no end.

        A run directory that is gone is not made again.

        Raises:
            RunDirectoryError, OSError: The disk refused.
        """
        if self._descriptor < 0 or not self._content or self._is_in_place() or not self.run.path.is_dir():
            return
        _log.warning("%s was removed, replaced or overwritten while the run was at work; it is written again", self.run.lock)
        descriptor = open_lock(self.run.lock)
        if os.path.sameopenfile(descriptor, self._descriptor):
            os.close(descriptor)
        else:
            try_lock(descriptor, wait_s=_LOOK_S)
            os.close(self._descriptor)
            self._descriptor = descriptor
        os.ftruncate(self._descriptor, len(self._content))
        self._write()

    def _write(self) -> None:
        os.pwrite(self._descriptor, self._content, 0)
        os.fsync(self._descriptor)

    def _is_in_place(self) -> bool:
        """Whether the path still leads to the locked file, and the file holds the record."""
        try:
            found, held = self.run.lock.lstat(), os.fstat(self._descriptor)
        except OSError:
            return False
        same = (found.st_dev, found.st_ino, found.st_size) == (held.st_dev, held.st_ino, len(self._content))
        return same and os.pread(self._descriptor, len(self._content), 0) == self._content

    def touch(self) -> None:
        """Tells readers on other machines that the owner lives. Called every :data:`TOUCH_INTERVAL_S`."""
        os.utime(self._descriptor)

    def release(self) -> None:
        """Releases the lock. The record stays, because it says which start may still be ended."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def find_record(run: RunDirectory) -> RunLockRecord | None:
    """The record in the lock file; None where there is none yet.

    Raises:
        CorruptRecord: The record is damaged.
    """
    for _ in range(_TRIES):
        content = (read_file(run.lock) or b"").strip()
        if not content:
            return None
        try:
            return RunLockRecord.parse(content, run.lock)
        except CorruptRecord:
            # A file system without atomic writes may show half of a record for a moment.
            time.sleep(_PAUSE_S)
    return RunLockRecord.find(run)


def current_owner(run: RunDirectory) -> Owner | None:
    """The start that owns the directory, whether its process lives or not. None before the first start."""
    record = find_record(run)
    return Owner(record.flow_run_id, record.start) if record else None


def owner_alive(run: RunDirectory) -> bool:
    """Whether the owner's process lives: it holds the lock, or runs on another machine and touched the lock file lately."""
    return is_held(run.lock) or _alive_elsewhere(run)


def _alive_elsewhere(run: RunDirectory) -> bool:
    try:
        record = find_record(run)
    except CorruptRecord:
        return False
    if record is None or record.host == host_name():
        return False
    try:
        return time.time() - run.lock.lstat().st_mtime < STALE_AFTER_S
    except FileNotFoundError:
        return False


def _owned(run: RunDirectory) -> RunDirectoryError:
    try:
        record = find_record(run)
    except CorruptRecord:
        record = None
    pid = record.pid if record else 0
    where = f" on {record.host}" if record and record.host != host_name() else ""
    return RunAlreadyOwned(
        f'run directory "{run.path}" is already owned by a live process (pid={pid}{where}). '
        f"Wait for it, or end it with `kilroy stop`.",
        path=run.path,
        pid=pid,
    )


def run_id_in(run: RunDirectory) -> str:
    """The run's id: from the lock file's record, else the name of the run directory."""
    record = find_record(run)
    return (record.run_id if record else "") or run.path.name
