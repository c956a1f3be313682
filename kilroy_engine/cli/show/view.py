"""Shows a run on standard error while it runs: a live board on a terminal, one line per event elsewhere.

The run does not depend on the view: a reader that closes the pipe (``2>&1 | head``) ends the view only.
"""

from __future__ import annotations

import sys
import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from kilroy_engine.cli.show.board import Board, BoardRow, Event
from kilroy_engine.cli.show.event_text import Narrator, duration, local_time
from kilroy_engine.cli.show.streams import console, say, style_of
from kilroy_engine.errors import RunDirectoryError
from kilroy_engine.processes.output import printable_lines
from kilroy_engine.rundir.files.layout import RunDirectory
from kilroy_engine.rundir.files.regular import read_part
from kilroy_engine.rundir.stream.reader import tail_events
from kilroy_engine.threads import start_thread

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.text import Text

_POLL_S = 0.1
_TAIL_BYTES = 4096
_ON_THE_BOARD = frozenset(
    {"stage_attempt_start", "stage_attempt_end", "stage_heartbeat", "stage_retry_sleep", "run_started", "run_failed"}
)
"""Events that the board or the command's last lines show. Other events are printed above the board."""


class View(Protocol):
    """Shows a run. ``show`` is called for each event, ``tick`` about ten times a second, ``close`` once at the end."""

    def show(self, event: Event) -> None: ...
    def tick(self) -> None: ...
    def close(self) -> None: ...


class PlainView:
    """Prints one line per event that has a line, with the time."""

    def __init__(self) -> None:
        self._narrator = Narrator()

    def show(self, event: Event) -> None:
        line = self._narrator.line(event)
        if line is not None:
            say(line)

    def tick(self) -> None:
        pass

    def close(self) -> None:
        pass


class LiveView:
    """Prints finished visits as they end. Below them a live board shows each open visit with its time and last output line."""

    def __init__(self, run: RunDirectory) -> None:
        from rich.live import Live

        self._run = run
        self._current = run
        self._narrator = Narrator()
        self._board = Board()
        self._began = datetime.now(UTC)
        self._console = console(stderr=True)
        self._fancy = self._console.encoding.lower().startswith("utf")
        self._live = Live(console=self._console, auto_refresh=False, transient=True)
        self._live.start()

    def show(self, event: Event) -> None:
        text = self._narrator.text(event)
        if event.get("event") == "loop_restart":
            number = event.get("restart_count")
            self._current = self._run.restart(number) if isinstance(number, int) else self._run
        for row in self._board.apply(event):
            self._console.print(self._finished(row))
        if text is not None and event.get("event") not in _ON_THE_BOARD:
            from rich.text import Text

            self._console.print(Text(f"  {local_time(event)} {text}", style="dim", no_wrap=True, overflow="ellipsis"))

    def tick(self) -> None:
        self._live.update(self._picture(), refresh=True)

    def close(self) -> None:
        self._live.stop()
        for row in self._board.rows:
            self._console.print(self._finished(row))

    def _picture(self) -> RenderableType:
        from rich.console import Group
        from rich.text import Text

        now = datetime.now(UTC)
        rows = [self._running(row, now) for row in self._board.rows]
        # The line is short: the terminal echoes ^C, and a wrapped line would spoil the count of lines to erase.
        foot = f"  {duration((now - self._began).total_seconds())}  Ctrl-C cancels the run"
        return Group(*rows, Text(foot, style="dim", no_wrap=True, overflow="ellipsis"))

    def _running(self, row: BoardRow, now: datetime) -> Text:
        from rich.text import Text

        frames = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏" if self._fancy else "|/-\\"
        mark = frames[int(time.monotonic() * 10) % len(frames)]
        last_line = row.detail or last_output_line(self._current.path / row.node_id.rpartition("/")[2])
        attempt = f" attempt {row.attempt}/{row.max_attempts}" if row.attempt > 1 else ""
        head = f"{mark} {_title(row):24} {row.status:8} {duration(row.elapsed_s(now)):>9}{attempt}"
        return Text.assemble((head, "cyan"), ("  " + last_line, "dim"), no_wrap=True, overflow="ellipsis")

    def _finished(self, row: BoardRow) -> Text:
        from rich.text import Text

        good = row.status in ("success", "partial_success", "skipped")
        mark = ("✓" if good else "✗") if self._fancy else ("+" if good else "x")
        attempts = f" after {row.attempt} attempts" if row.attempt > 1 else ""
        took = duration(row.elapsed_s(datetime.now(UTC)))
        text = Text.assemble((f"{mark} {_title(row):24} {row.status:8}", style_of(row.status)), f" {took:>9}{attempts}")
        return text.append(f"  {row.detail}") if row.detail else text


def _title(row: BoardRow) -> str:
    return row.node_id if row.visit == 1 else f"{row.node_id} (visit {row.visit})"


def last_output_line(stage_dir: Path) -> str:
    """The last line that the stage's process wrote, without control characters. "" where the process wrote nothing."""
    newest = max((file for name in ("stdout.log", "stderr.log") if (file := _stat(stage_dir / name))), default=None)
    if newest is None:
        return ""
    lines = printable_lines(read_part(newest[1], _TAIL_BYTES, end=True))
    return lines[-1].strip() if lines else ""


def _stat(file: Path) -> tuple[float, Path, int] | None:
    try:
        found = file.lstat()
    except OSError:
        return None
    return (found.st_mtime, file, found.st_size) if found.st_size else None


class Follower:
    """A thread that reads a run's events and gives them to a view, until the run's end or :meth:`stop`.

    ``start`` is the number of the first start that is shown.
    """

    def __init__(self, run: RunDirectory, view: View, *, start: int = 1) -> None:
        self._run = run
        self._view = view
        self._start = start
        self._stop = threading.Event()
        self._thread = start_thread(self._follow, name="kilroy-view")

    def stop(self) -> None:
        """Shows the unread events and ends the view. Waits up to 5 s for the thread."""
        self._stop.set()
        self._thread.join(timeout=5)

    def _follow(self) -> None:
        try:
            for event in tail_events(self._run.path, follow=True, poll_s=_POLL_S, stop=self._idle, start=self._start):
                self._view.show(event)
            self._view.close()
        except (BrokenPipeError, ValueError):
            pass  # standard error is closed: the run goes on without a view
        except RunDirectoryError as error:
            self._view.close()
            say(f"kilroy: the run goes on unseen: {error}")

    def _idle(self) -> bool:
        """Called by the event reader when there is no new event, before every pause. True ends the reading."""
        self._view.tick()
        return self._stop.is_set()


def choose_view(run: RunDirectory) -> View:
    """The live board on a terminal that can move its cursor, else lines."""
    return LiveView(run) if sys.stderr.isatty() and console(stderr=True).is_terminal and not _dumb() else PlainView()


def _dumb() -> bool:
    return console(stderr=True).is_dumb_terminal
