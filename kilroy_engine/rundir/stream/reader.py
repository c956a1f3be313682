"""Reads a run from outside: what the run is doing, how it ended, and its events as they come."""

from __future__ import annotations

import heapq
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal, TypeAlias

from kilroy_engine.errors import RunDirectoryError
from kilroy_engine.events import TERMINAL_EVENTS, RunResumed
from kilroy_engine.events.times import read_rfc3339
from kilroy_engine.limits import STREAM_BYTES
from kilroy_engine.rundir.files.inside import real_folders
from kilroy_engine.rundir.files.layout import RunDirectory
from kilroy_engine.rundir.files.records import FinalOutcome, Manifest
from kilroy_engine.rundir.files.regular import open_file
from kilroy_engine.rundir.ownership.ownership import find_record, owner_alive
from kilroy_engine.rundir.stream.progress import last_event, parse_line, read_events, whole_lines

RunStatus: TypeAlias = Literal["running", "success", "fail", "canceled", "unknown"]
_POLL_S = 0.25


@dataclass(frozen=True, slots=True)
class RunSummary:
    """The current facts of a run.

    - ``status``: the end's status if the run has ended; ``running`` while the owner lives; ``unknown`` when the owner is gone
      and the run has no end yet.
    - ``complete``: the terminal line is written, and so is every other file of the end.
    - ``node_id``, ``attempt``, ``max_attempts``: of the latest stage; blank and 0 before the first.
    - ``restarts``: how often the run has begun again over a ``loop_restart`` edge.
    """

    path: Path
    run_id: str
    status: RunStatus
    complete: bool
    node_id: str
    attempt: int
    max_attempts: int
    last_event: str
    last_event_at: datetime | None
    started_at: datetime | None
    pid: int
    owner_alive: bool
    final: FinalOutcome | None
    manifest: Manifest | None
    restarts: int = 0

    @property
    def graph_name(self) -> str:
        """Name of the pipeline."""
        return self.manifest.graph_name if self.manifest else ""

    @property
    def failure_reason(self) -> str:
        """Why the run failed or was canceled; empty otherwise."""
        return self.final.failure_reason if self.final else ""


def read_run(path: Path | str) -> RunSummary:
    """Reads the current facts of the run in the run directory ``path``.

    Raises:
        RunDirectoryError: There is no run directory.
        CorruptRecord: One of its records is damaged.
    """
    run = RunDirectory(Path(path))
    if not run.path.is_dir():
        raise RunDirectoryError(f"{run.path} is no run directory", path=run.path)
    current = run.ending_directories()[0]
    latest = last_event(run.progress)
    complete = latest is not None and latest.get("event") in TERMINAL_EVENTS
    recent = latest if complete else last_event(current.progress) or latest
    manifest, record, final, alive = Manifest.find(run), find_record(run), FinalOutcome.find(run), owner_alive(run)
    if final is not None and record is not None and final.start != record.start and not complete:
        final = None  # the end of an earlier start, which is about to be renamed
    stage = _latest_stage(current.progress)
    return RunSummary(
        path=run.path,
        run_id=(record.run_id if record else "") or (manifest.run_id if manifest else "") or run.path.name,
        status=final.status.value if final else ("running" if alive else "unknown"),
        complete=complete,
        node_id=_text(stage, "node_id"),
        attempt=_whole(stage, "attempt"),
        max_attempts=_whole(stage, "max"),
        last_event=_text(recent, "event"),
        last_event_at=_moment(recent),
        started_at=_moment(next(read_events(run.progress), None)),
        pid=record.pid if record else 0,
        owner_alive=alive,
        final=final,
        manifest=manifest,
        restarts=run.restarts(),
    )


def tail_events(
    path: Path | str,
    *,
    follow: bool = False,
    poll_s: float = _POLL_S,
    stop: Callable[[], bool] | None = None,
    start: int = 1,
) -> Iterator[dict[str, object]]:
    """The events of the run directory ``path``, oldest first. Events of its ``restart-N`` directories are merged in by time.

    With ``follow`` the iterator waits for new events, looks every ``poll_s`` seconds, and returns after the terminal line. The
    iterator also returns when there is nothing new and ``stop()`` is true. The terminal line comes once, as the last event.
    With ``start`` above 1 the events begin at the line ``run_resumed`` of that start, which may not be written yet.

    Raises:
        CorruptRecord: A stream is no file, or larger than any stream.
    """
    run = RunDirectory(Path(path))
    tails: dict[Path, _Tail] = {}
    terminal: dict[str, object] | None = None
    begun = start <= 1
    while True:
        found = False
        for base, event in _new_events(run, tails):
            found = True
            begun = begun or (event.get("event") == RunResumed.event and _whole(event, "start") >= start)
            if not begun:
                continue
            if base and terminal is not None:
                yield terminal  # a later start went on, so this terminal line is not the last event
                terminal = None
            if event.get("event") in TERMINAL_EVENTS:
                terminal = event
            else:
                yield event
        if found:
            continue  # another look, in case a restart's file grew while the run directory's was read
        if terminal is not None:
            yield terminal
        if terminal is not None or not follow or (stop is not None and stop()):
            return
        time.sleep(poll_s)


def _new_events(run: RunDirectory, tails: dict[Path, _Tail]) -> Iterator[tuple[bool, dict[str, object]]]:
    """The events since the last call, in the order of their times. True with an event of the run directory itself."""
    for path in (run.progress, *(folder / run.progress.name for folder in real_folders(run.path, "restart-*"))):
        tails.setdefault(path, _Tail(path, own=path == run.progress))
    streams = [tail.read() for tail in tails.values()]
    # Without its Z a time sorts before the same time with a longer fraction.
    return heapq.merge(*streams, key=lambda entry: _text(entry[1], "ts").rstrip("Z"))


_REPEATED = TERMINAL_EVENTS | {RunResumed.event}
"""Events that a restart directory's stream has as well as the run directory's."""


class _Tail:
    """Reads the new whole lines of a growing file. ``own``: the file is the run directory's, not a restart's."""

    def __init__(self, path: Path, *, own: bool) -> None:
        self._path = path
        self._own = own
        self._offset = 0

    def read(self) -> Iterator[tuple[bool, dict[str, object]]]:
        stream = open_file(self._path, limit_bytes=STREAM_BYTES)
        if stream is None:
            return
        with stream:
            begin = self._offset
            stream.seek(begin)
            for line, size_bytes in whole_lines(stream):
                self._offset = begin + size_bytes
                event = parse_line(line)
                if event is not None and (self._own or event["event"] not in _REPEATED):
                    yield self._own, event


def _latest_stage(path: Path) -> Mapping[str, object] | None:
    """The last ``stage_attempt_start`` event of the stream."""
    stream = open_file(path, limit_bytes=STREAM_BYTES)
    if stream is None:
        return None
    found = b""
    with stream:
        for line, _ in whole_lines(stream):
            if b'"stage_attempt_start"' in line:
                found = line
    return parse_line(found)


def _text(event: Mapping[str, object] | None, key: str) -> str:
    return str(event.get(key, "")) if event else ""


def _whole(event: Mapping[str, object] | None, key: str) -> int:
    value = event.get(key) if event else None
    return value if isinstance(value, int) else 0


def _moment(event: Mapping[str, object] | None) -> datetime | None:
    try:
        return read_rfc3339(_text(event, "ts"))
    except ValueError:
        return None
