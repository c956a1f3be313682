"""Prints results on standard output and everything else on standard error, on any terminal, pipe and encoding."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from io import TextIOWrapper
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from rich.console import Console

STATUS_STYLES: Mapping[str, str] = {
    "success": "green",
    "partial_success": "yellow",
    "retry": "yellow",
    "skipped": "dim",
    "fail": "red",
    "canceled": "magenta",
    "running": "cyan",
    "waiting": "cyan",
    "lost": "red",
    "interrupted": "yellow",
    "ok": "green",
    "warning": "yellow",
    "broken": "red",
}
_WIDE = 100_000  # columns of a pipe or file, where no text is cut


def prepare_streams() -> None:
    """Makes characters that the encoding lacks print as ``?`` instead of raising. Called once, at the start of the command."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")


def silence_streams() -> None:
    """Sends both streams to the null device. Called after a broken pipe, so that Python reports no error at exit."""
    null = os.open(os.devnull, os.O_WRONLY)
    for descriptor in (1, 2):
        os.dup2(null, descriptor)
    os.close(null)


def say(text: str = "") -> None:
    """Prints a line on standard error."""
    print(text, file=sys.stderr, flush=True)


def print_json(value: object) -> None:
    """Prints a result for programs on standard output, in plain ASCII, which every encoding has."""
    print(json.dumps(value, indent=2))


@lru_cache(maxsize=2)
def console(*, stderr: bool = False) -> Console:
    """A rich console that prints text unchanged: no markup, no highlighting, and no cutting in a pipe."""
    from rich.console import Console

    class PipeAwareConsole(Console):
        def on_broken_pipe(self) -> None:
            """Raises, so that the caller handles a broken pipe. Rich would end the process, and with it the run."""
            raise BrokenPipeError

    stream = sys.stderr if stderr else sys.stdout
    return PipeAwareConsole(
        stderr=stderr,
        markup=False,
        highlight=False,
        emoji=False,
        soft_wrap=True,
        width=None if stream.isatty() else _WIDE,
    )


def style_of(status: str) -> str:
    """Rich style of a status word; "" for a custom status."""
    return STATUS_STYLES.get(status, "")


def print_table(headers: Sequence[str], rows: Iterable[Sequence[str]], *, stream: TextIO | None = None) -> None:
    """Prints aligned columns. The last column is cut to the width of a terminal; in a pipe every cell is complete.

    A cell that is a status word gets the color of the status.
    """
    from rich.table import Table
    from rich.text import Text

    target = console(stderr=stream is sys.stderr)
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=True, header_style="bold")
    cells = [[" ".join(cell.split()) for cell in row] for row in rows]
    for place, header in enumerate(headers):
        widest = max((len(row[place]) for row in cells), default=0) if place + 1 < len(headers) else None
        table.add_column(header, no_wrap=True, overflow="ellipsis", min_width=widest)
    for row in cells:
        table.add_row(*(Text(cell, style=style_of(cell)) for cell in row))
    with target.capture() as capture:
        target.print(table, soft_wrap=False)
    for line in capture.get().splitlines():
        print(line.rstrip(), file=stream or sys.stdout)
