"""``kilroy stop``: cancels a run and waits for its end."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from kilroy_engine.cli.errors import ExitCode
from kilroy_engine.cli.find_run import find_run, root_of_runs
from kilroy_engine.cli.show.streams import say
from kilroy_engine.errors import CorruptRecord, InvalidInput
from kilroy_engine.graph.attributes import read_duration_s


def stop(
    run: Annotated[str, Parameter(name="RUN", help="Id, beginning of an id, or path. Default: the latest run.")] = "",
    /,
    *,
    grace: Annotated[str, Parameter(metavar="TIME", help="How long to wait for the run's end. Default: 60s.")] = "60s",
    force: Annotated[bool, Parameter(help="Kill its process if it has not ended by then, and end the run from here.")] = False,
    runs_root: Annotated[Path | None, Parameter(help="Folder of run directories.")] = None,
) -> int:
    """Cancel a run and wait until it has ended.

    A run under a worker is canceled through Prefect, any other through its run directory. Prints `pid=` and
    `stopped=graceful` or `stopped=forced`. The exit code is 0 when the run has ended, and 1 when it is still at work after the
    grace or had ended before.
    """
    from kilroy_engine.cli.connection import Connection
    from kilroy_engine.rundir.stream.reader import read_run

    grace_s = read_duration_s(grace, default=None)
    if grace_s is None or grace_s < 0:
        raise InvalidInput(f"--grace {grace}: a time such as 10s or 2m is expected", name="grace")
    directory = find_run(run, root_of_runs(runs_root))
    try:
        summary = read_run(directory.path)
    except CorruptRecord as damaged:
        say(f"kilroy: {damaged}")  # a damaged run at work can still be stopped
    else:
        if summary.complete:
            reason = f": {summary.failure_reason}" if summary.failure_reason else ""
            say(f"kilroy: run {summary.run_id} has ended already, with {summary.status}{reason}; there is nothing to stop")
            return ExitCode.FAIL
    Connection(say).enter_if_reachable()

    from kilroy_engine.orchestration.ending.stop import owner_pid, stop_run

    stopped = stop_run(directory, grace_s=grace_s, force=force)
    if stopped is None:
        more = "" if force else "; --force kills its process"
        which = f"{directory.path.name} (pid {owner_pid(directory)})"
        say(f"kilroy: run {which} was asked to stop and has not ended within {grace}{more}")
        return ExitCode.FAIL
    print(f"pid={stopped.pid}")
    print(f"stopped={'forced' if stopped.forced else 'graceful'}")
    say(f"run {stopped.final.run_id}: {stopped.final.status}: {stopped.final.failure_reason}")
    return ExitCode.SUCCESS
