"""``progress.ndjson``: appends events and reads them back.

Every writer holds ``commit.lock`` and appends one whole line by one ``write`` on an ``O_APPEND`` descriptor. Before that the
writer checks whether the run has ended: after the terminal line only ``run_resumed`` is appended. If a crash or a full disk has
torn the last line, the next writer adds a newline and changes nothing else.
"""

from __future__ import annotations

import logging
import os
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import BinaryIO, TypeAlias, cast

from kilroy_engine.errors import RunDirectoryError, RunEnded
from kilroy_engine.events import TERMINAL_EVENTS, Event, RunResumed, to_line
from kilroy_engine.events.encoding import from_json
from kilroy_engine.limits import LINE_BYTES, STREAM_BYTES
from kilroy_engine.locks import FileLock
from kilroy_engine.rundir.files.atomic import TEMPORARY_PREFIX, replace_quickly, write_all
from kilroy_engine.rundir.files.failpoints import die, failpoint, reached
from kilroy_engine.rundir.files.layout import RunDirectory
from kilroy_engine.rundir.files.locks import open_lock
from kilroy_engine.rundir.files.regular import open_file, open_for_writing
from kilroy_engine.traversal.outcome import FinalStatus

EventListener: TypeAlias = Callable[[Event], None]
"""Called with each event after the append, in the appending thread, outside of all locks."""

_TAIL_BYTES = 1 << 16
_TORN_LINES = 1000
"""After so many lines that begin like an event and are none, the search for the last event stops."""
_log = logging.getLogger(__name__)


class ProgressLog:
    """The event stream of one run directory, for one start. Threads and processes may share the stream.

    A log that was made before the run's end refuses every event but ``run_resumed`` after that end, also when a later start has
    resumed the run. So a thread or process left over from an earlier start cannot write among the next start's lines.
    """

    def __init__(self, run: RunDirectory, run_id: str) -> None:
        self._run = run
        self._run_id = run_id
        self._lock = FileLock(partial(open_lock, run.commit_lock))
        self._live = run.live
        self._next_live = run.path / f"{TEMPORARY_PREFIX}live.json"
        self._listeners: list[EventListener] = []
        self._descriptor = -1
        self._pid = 0
        self._file = (0, 0)
        self._seen_bytes = -1
        self._known_bytes = _size_bytes(run.progress)
        self._ended = False
        self._closed = False

    def __reduce__(self) -> tuple[type[ProgressLog], tuple[RunDirectory, str]]:
        # A pickled log opens the file anew in the other process and has no listeners there.
        return ProgressLog, (self._run, self._run_id)

    def listen(self, listener: EventListener) -> None:
        """Adds a listener, such as a live view or a watchdog's clock."""
        self._listeners.append(listener)

    def beside(self, run: RunDirectory) -> ProgressLog:
        """The stream of another directory of the same run, such as a restart's. Both streams share their listeners."""
        other = ProgressLog(run, self._run_id)
        other._listeners = self._listeners
        return other

    def exclusive(self) -> AbstractContextManager[None]:
        """Holds ``commit.lock``, so that no other process writes between several steps. The holder may append."""
        return self._lock.held()

    def append(self, event: Event, *, durable: bool = False) -> None:
        """Appends one event and replaces ``live.json``. With ``durable`` the call waits until the line is on the disk.

        Raises:
            RunEnded: The run is over and the event is not ``run_resumed``.
            RunDirectoryError: The disk refused.
        """
        with self._lock.held():
            self._refuse_after_end(event)
            line = to_line(event, self._run_id)
            try:
                self._write(event, line)
                if durable:
                    os.fsync(self._descriptor)
                self._show(line)
            except OSError as error:
                self._seen_bytes = -1
                raise RunDirectoryError(
                    f"cannot append to {self._run.progress}: {error.strerror}", path=self._run.path
                ) from error
            self._ended = event.event in TERMINAL_EVENTS
        failpoint(event.event, "after")
        for listener in self._listeners:
            listener(event)

    @property
    def ended(self) -> bool:
        """Whether the run has ended for this log."""
        with self._lock.held():
            self._catch_up()
            return self._ended

    def close(self) -> None:
        """Closes the files and refuses later appends."""
        with self._lock.held():
            self._closed = True
            if self._descriptor >= 0:
                os.close(self._descriptor)
                self._descriptor = -1
        self._lock.close()

    def _refuse_after_end(self, event: Event) -> None:
        """Raises :class:`RunEnded` where the run is over, unless the event is ``run_resumed``."""
        if not self._closed:
            self._catch_up()
            if not self._ended or isinstance(event, RunResumed):
                return
        _log.warning("%s: %s came after the end of the run and is left out", self._run.path, event.event)
        raise RunEnded(f"the run in {self._run.path} has ended; {event.event} is not appended", path=self._run.path)

    def _write(self, event: Event, line: bytes) -> None:
        failpoint(event.event, "before")
        if reached(event.event, "torn"):
            write_all(self._descriptor, line[: len(line) // 2])
            die()
        write_all(self._descriptor, line)
        self._seen_bytes += len(line)
        self._known_bytes = self._seen_bytes

    def _show(self, line: bytes) -> None:
        # The lock is held, so one temporary name is enough; a file left by a crash is overwritten.
        descriptor = open_for_writing(self._next_live, os.O_WRONLY | os.O_TRUNC)
        try:
            write_all(descriptor, line)
        finally:
            os.close(descriptor)
        replace_quickly(self._next_live, self._live)

    def _catch_up(self) -> None:
        """Reads what other processes have appended. Where nobody did, this costs two looks at the file."""
        if self._descriptor < 0 or self._pid != os.getpid() or not self._is_in_place():
            self._open()
        size = os.fstat(self._descriptor).st_size
        if size == self._seen_bytes:
            return
        known = min(self._known_bytes, size)
        before = b"" if 0 <= self._seen_bytes < size else read_last_event(self._descriptor, known)
        news = os.pread(self._descriptor, size - known, known)
        if size and not (before + news).endswith(b"\n"):
            write_all(self._descriptor, b"\n")
            size += 1
        self._seen_bytes = self._known_bytes = size
        if _has_ended(before, news):
            self._ended = True

    def _is_in_place(self) -> bool:
        """Whether the path still leads to the open file. A stage may have removed or replaced it."""
        return _identity(self._run.progress) == self._file

    def _open(self) -> None:
        if self._descriptor >= 0 and self._pid == os.getpid():
            _log.warning("%s was removed or replaced while the run was at work; it begins anew", self._run.progress)
            os.close(self._descriptor)
            self._descriptor = -1
            self._known_bytes = 0
        try:
            self._descriptor = open_for_writing(self._run.progress, os.O_RDWR | os.O_APPEND)
        except OSError as error:
            raise RunDirectoryError(f"cannot open {self._run.progress}: {error.strerror}", path=self._run.path) from error
        opened = os.fstat(self._descriptor)
        self._file = (opened.st_dev, opened.st_ino)
        self._pid = os.getpid()
        self._seen_bytes = -1


def _identity(path: Path) -> tuple[int, int]:
    try:
        found = path.lstat()
    except OSError:
        return (0, 0)
    return found.st_dev, found.st_ino


def _has_ended(before: bytes, news: bytes) -> bool:
    """Whether the run has ended for a log. ``before`` begins with the last event known to the log, ``news`` are the bytes after
    ``before``.

    A terminal line in ``before`` does not count once ``run_resumed`` follows.
    """
    lines = (before + news).split(b"\n")
    if before and b'"run_resumed"' in news:
        del lines[0]
    return any(terminal_event(line) for line in lines)


def _size_bytes(path: Path) -> int:
    try:
        found = path.lstat()
    except OSError:
        return 0  # not there yet, or the first append says why it cannot be read
    return found.st_size if stat.S_ISREG(found.st_mode) else 0


def terminal_event(line: bytes) -> Mapping[str, object] | None:
    """The event of a line when the event is terminal, else None."""
    if b'"run_completed"' not in line and b'"run_failed"' not in line:
        return None
    event = parse_line(line)
    return event if event is not None and event["event"] in TERMINAL_EVENTS else None


def parse_line(line: bytes) -> dict[str, object] | None:
    """The event of a line. None where the line is blank, torn or no event: a stage may have written the line.

    Every event has a text ``event``. A terminal event also has a ``status`` of :class:`FinalStatus`. Any other key may be
    missing.
    """
    if not line.lstrip().startswith(b"{"):
        return None
    try:
        value = from_json(line)
    except ValueError:
        return None
    if not isinstance(value, dict):
        return None
    event = cast("dict[str, object]", value)
    name = event.get("event")
    if not isinstance(name, str) or (name in TERMINAL_EVENTS and event.get("status") not in _FINAL_STATUSES):
        return None
    return event


_FINAL_STATUSES = tuple(FinalStatus)


def read_last_line(descriptor: int, size_bytes: int) -> bytes:
    """The last line of a file of ``size_bytes``, with its newline if any. Of a line longer than any event only the end."""
    window = _TAIL_BYTES
    while True:
        begin = max(0, size_bytes - window)
        tail = os.pread(descriptor, size_bytes - begin, begin)
        newline = tail.rfind(b"\n", 0, len(tail) - 1)
        if newline >= 0 or begin == 0 or window >= LINE_BYTES:
            return tail[newline + 1 :]
        window *= 2


def read_last_event(descriptor: int, size_bytes: int) -> bytes:
    """The end of a file, from the last line that is an event. Without such a line: the last bytes that were searched."""
    window = _TAIL_BYTES
    while True:
        begin = max(0, size_bytes - window)
        tail = os.pread(descriptor, size_bytes - begin, begin)
        place, tries = len(tail), 0
        while tries < _TORN_LINES and (place := _line_before(tail, place, whole=begin == 0)) >= 0:
            tries += 1
            if parse_line(tail[place:].partition(b"\n")[0]) is not None:
                return tail[place:]
        if begin == 0 or window >= LINE_BYTES or tries == _TORN_LINES:
            return tail
        window *= 4


def _line_before(tail: bytes, place: int, *, whole: bool) -> int:
    """Where the last line before ``place`` begins that may be a JSON object; -1 for none. ``whole``: ``tail`` is the whole
    file.
    """
    found = tail.rfind(b"\n{", 0, place)
    if found >= 0:
        return found + 1
    return 0 if whole and place > 0 and tail.startswith(b"{") else -1


def read_events(path: Path) -> Iterator[dict[str, object]]:
    """The events of a ``progress.ndjson``, oldest first. Torn lines are skipped. A missing file has no events.

    Raises:
        CorruptRecord: The path is no file, or the file is larger than any stream.
    """
    stream = open_file(path, limit_bytes=STREAM_BYTES)
    if stream is None:
        return
    with stream:
        for line, _ in whole_lines(stream):
            event = parse_line(line)
            if event is not None:
                yield event


def whole_lines(stream: BinaryIO) -> Iterator[tuple[bytes, int]]:
    """The whole lines of ``stream`` from its current position, each with the number of bytes read up to the line's end.

    A last line without a newline may still be growing and is left out. A line of more than :data:`LINE_BYTES` comes as an empty
    line.
    """
    passed = read_bytes = 0
    while part := stream.readline(LINE_BYTES):
        read_bytes += len(part)
        if part.endswith(b"\n"):
            yield (b"\n" if read_bytes - passed > LINE_BYTES else part), read_bytes
            passed = read_bytes


def last_event(path: Path) -> dict[str, object] | None:
    """The last event of a ``progress.ndjson``; None where there is none. A torn last line is skipped.

    Raises:
        CorruptRecord: The path is no file.
    """
    stream = open_file(path)
    if stream is None:
        return None
    with stream:
        descriptor = stream.fileno()
        size = os.fstat(descriptor).st_size
        last = read_last_line(descriptor, size)
        if not last.endswith(b"\n"):
            size -= len(last)  # it may still be growing
        return parse_line(read_last_event(descriptor, size).partition(b"\n")[0])


def is_ended(path: Path) -> bool:
    """Whether the last event of a ``progress.ndjson`` is terminal."""
    event = last_event(path)
    return event is not None and event["event"] in TERMINAL_EVENTS
