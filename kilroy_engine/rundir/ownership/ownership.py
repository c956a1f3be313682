"""Who owns a run: the lock that the flow process holds for its whole life, and the record in it."""

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
"""How often the owner touches its lock."""

STALE_AFTER_S = 60.0
"""A lock of another machine that was not touched for so long has lost its owner."""

_log = logging.getLogger(__name__)
_TRIES = 20
_PAUSE_S = 0.025
_LOOK_S = 0.5
"""Someone may hold the lock only to look whether the owner lives, which takes microseconds."""


@dataclass(frozen=True, slots=True)
class Owner:
    """One start of a run: the flow run that made it and its number."""

    flow_run_id: str
    start: int


class RunLock:
    """The run's lock, held by this process until :meth:`release` or the process's end.

    ``previous`` is the record of the start before, None in a fresh directory.
    """

    def __init__(self, run: RunDirectory, descriptor: int, previous: RunLockRecord | None) -> None:
        self.run = run
        self._descriptor = descriptor
        self._content = b""
        self.previous = previous

    @classmethod
    def acquire(cls, run: RunDirectory) -> RunLock:
        """Takes the lock; the record stays as it is until :meth:`record` writes it.

        Raises:
            RunAlreadyOwned: another process, or another flow run in this one, holds it.
        """
        descriptor = open_lock(run.lock)
        try:
            # The file system of another machine may not know our lock: its record is fresh for as long as it is touched.
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
        """Writes who owns the run from now on, in place: the lock is the file's, so the file must stay the same one."""
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
        # Padded to the old length, one write replaces the record whole: a reader or a crash never meets half of it.
        content = indented(record.to_json()) + b"\n"
        self._content = content.ljust(os.fstat(self._descriptor).st_size)
        failpoint("run.lock.json", "before")
        self._write()
        failpoint("run.lock.json", "after")
        return record

    def restore(self) -> None:
        """Puts the record back where a stage has removed, replaced or overwritten it: without it the run has no end.

        A run directory that is gone stays gone.

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
        """Whether readers find the locked file, with what was written to it."""
        try:
            found, held = self.run.lock.lstat(), os.fstat(self._descriptor)
        except OSError:
            return False
        same = (found.st_dev, found.st_ino, found.st_size) == (held.st_dev, held.st_ino, len(self._content))
        return same and os.pread(self._descriptor, len(self._content), 0) == self._content

    def touch(self) -> None:
        """Tells readers on other machines that the owner lives; call it every :data:`TOUCH_INTERVAL_S`."""
        os.utime(self._descriptor)

    def release(self) -> None:
        """Gives the run free. The record stays, as the answer to whose end may be written."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def find_record(run: RunDirectory) -> RunLockRecord | None:
    """The lock's record; None where there is none yet.

    Raises:
        CorruptRecord: the file holds something else.
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
    """The start that owns the directory, alive or not; None before the first start."""
    record = find_record(run)
    return Owner(record.flow_run_id, record.start) if record else None


def owner_alive(run: RunDirectory) -> bool:
    """Whether the owner's process lives: it holds the lock, or runs on another machine and has touched it lately."""
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
    """The run's id: the lock's record says it, else the folder's name is it."""
    record = find_record(run)
    return (record.run_id if record else "") or run.path.name
