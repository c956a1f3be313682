"""``kilroy runs wait``: wait for a run's end."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from kilroy_engine.cli.errors import ExitCode, exit_code_of
from kilroy_engine.cli.find_run import find_run, root_of_runs
from kilroy_engine.cli.streams import say
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
    from kilroy_engine.cli.waiting import Abandoned
    from kilroy_engine.rundir.reader import read_run

    limit_s = read_duration_s(timeout, default=None) if timeout else float("inf")
    if limit_s is None:
        raise InvalidInput(f"--timeout {timeout}: a time such as 30s, 15m or 2h is expected", name="timeout")
    directory = find_run(run, root_of_runs(runs_root))
    abandoned = Abandoned(directory)
    gives_up_at = time.monotonic() + limit_s
    while True:
        summary = read_run(directory.path)
        given_up = abandoned()
        if summary.final is not None and (summary.complete or given_up):
            reason = f": {summary.failure_reason}" if summary.failure_reason else ""
            say(f"run {summary.run_id}: {summary.status}{reason}")
            return exit_code_of(summary.status)
        if given_up:
            say(f"kilroy: the process of run {summary.run_id} is gone and has left no end")
            return ExitCode.FAIL
        if time.monotonic() >= gives_up_at:
            say(f"kilroy: run {summary.run_id} is still {summary.status} after {timeout}")
            return ExitCode.TIMED_OUT
        time.sleep(_POLL_S)
