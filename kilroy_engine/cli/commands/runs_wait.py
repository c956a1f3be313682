"""``kilroy runs wait``: waits for a run's end."""

from __future__ import annotations

import time
from collections import deque
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from kilroy_engine.cli.commands.follow import terminal_status
from kilroy_engine.cli.errors import ExitCode, exit_code_of
from kilroy_engine.cli.find_run import find_run, root_of_runs
from kilroy_engine.cli.show.streams import say
from kilroy_engine.errors import InvalidInput
from kilroy_engine.graph.attributes import read_duration_s

_POLL_S = 0.2


def wait(
    run: Annotated[str, Parameter(name="RUN", help="Id, beginning of an id, or path. Default: the latest run.")] = "",
    /,
    *,
    timeout: Annotated[str, Parameter(metavar="TIME", help="Give up after this time, for example 90s or 2h.")] = "",
    runs_root: Annotated[Path | None, Parameter(help="Folder of run directories.")] = None,
) -> int:
    """Wait for a run's end and exit with its code.

    The exit code is 0 after a success, 1 after a failure or when the run's process is gone without an end, 130 when the run was
    canceled and 2 when the time is up.
    """
    from kilroy_engine.rundir.ownership.abandoned import Abandoned
    from kilroy_engine.rundir.stream.reader import read_run, tail_events

    limit_s = read_duration_s(timeout, default=None) if timeout else float("inf")
    if limit_s is None:
        raise InvalidInput(f"--timeout {timeout}: a time such as 30s, 15m or 2h is expected", name="timeout")
    directory = find_run(run, root_of_runs(runs_root))
    abandoned = Abandoned(directory.path)
    gives_up_at = time.monotonic() + limit_s
    events = tail_events(
        directory.path, follow=True, poll_s=_POLL_S, stop=lambda: abandoned() or time.monotonic() >= gives_up_at
    )
    last = next(iter(deque(events, maxlen=1)), {})
    if status := terminal_status(last):
        return _tell_end(str(last.get("run_id", "")), status, str(last.get("reason", "")))
    summary = read_run(directory.path)
    if not abandoned():
        say(f"kilroy: run {summary.run_id} is still {summary.status} after {timeout}")
        return ExitCode.TIMED_OUT
    if summary.final is not None:  # the process that wrote final.json died before the terminal line
        return _tell_end(summary.run_id, summary.status, summary.failure_reason)
    say(f"kilroy: the process of run {summary.run_id} is gone and has left no end")
    return ExitCode.FAIL


def _tell_end(run_id: str, status: str, reason: str) -> int:
    say(f"run {run_id}: {status}{f': {reason}' if reason else ''}")
    return exit_code_of(status)
