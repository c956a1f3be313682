"""``kilroy follow``: prints a run's events as lines, until the run ends."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from kilroy_engine.cli.errors import ExitCode, exit_code_of
from kilroy_engine.cli.find_run import find_run, root_of_runs
from kilroy_engine.cli.show.event_text import Narrator
from kilroy_engine.cli.show.streams import say


def follow(
    run: Annotated[str, Parameter(name="RUN", help="Id, beginning of an id, or path. Default: the latest run.")] = "",
    /,
    *,
    raw: Annotated[bool, Parameter(help="Print the lines of progress.ndjson as they are.")] = False,
    runs_root: Annotated[Path | None, Parameter(help="Folder of run directories.")] = None,
) -> int:
    """Print a run's events until it ends.

    Prints what has happened so far, then what happens. Ends with the run and exits with its code: 0 success, 1 fail, 130
    canceled. The exit code is 1 as well when the run's process is gone without having written an end.
    """
    from kilroy_engine.events.encoding import compact
    from kilroy_engine.rundir.ownership.abandoned import Abandoned
    from kilroy_engine.rundir.stream.reader import tail_events

    directory = find_run(run, root_of_runs(runs_root))
    narrator = Narrator()
    status = ""
    for event in tail_events(directory.path, follow=True, stop=Abandoned(directory.path)):
        line = compact(event).decode("utf-8", "replace") if raw else narrator.line(event)
        if line is not None:
            print(line, flush=True)
        status = terminal_status(event)
    if not status:
        say(f"kilroy: the process of run {directory.path.name} is gone and has left no end")
        return ExitCode.FAIL
    return exit_code_of(status)


def terminal_status(event: Mapping[str, object]) -> str:
    """The final status in a terminal line's event; "" for any other event."""
    if event.get("event") in ("run_completed", "run_failed"):
        return str(event.get("status", ""))
    return ""
