"""``kilroy resume``: goes on with a run that has failed, was canceled or lost its process."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from kilroy_engine.cli.commands.run import launch_and_follow, warn
from kilroy_engine.cli.errors import ExitCode
from kilroy_engine.cli.find_run import find_run, root_of_runs
from kilroy_engine.cli.run_options import LimitFlags, WorkerFlags, check_inputs, check_labels, options_of_resume, read_pairs
from kilroy_engine.cli.show.diagnostics import print_refusal
from kilroy_engine.cli.show.streams import say
from kilroy_engine.errors import InvalidPipeline


def resume(
    run: Annotated[str, Parameter(name="RUN", help="Id, beginning of an id, or path. Default: the latest run.")] = "",
    /,
    *,
    graph: Annotated[Path | None, Parameter(help="Pipeline file or package. Default: the one that the run began with.")] = None,
    force: Annotated[bool, Parameter(help="Go on although the pipeline given with `--graph` has changed.")] = False,
    input: Annotated[  # the option's name
        list[str],
        Parameter(validator=check_inputs, metavar="NAME=VALUE", help="An input with a new value; as in `kilroy run`."),
    ] = [],  # noqa: B006  # cyclopts only reads it
    label: Annotated[
        list[str], Parameter(validator=check_labels, metavar="NAME=VALUE", help="A label more, or with a new value.")
    ] = [],  # noqa: B006  # the same
    workers: Annotated[WorkerFlags, Parameter(name="*")] = WorkerFlags(),  # noqa: B008  # frozen
    limits: Annotated[LimitFlags, Parameter(name="*")] = LimitFlags(),  # noqa: B008  # frozen
    runs_root: Annotated[Path | None, Parameter(help="Folder of run directories.")] = None,
) -> int:
    """Go on with a run that has failed, was canceled or lost its process.

    Finished stages are not run again. The stage that was interrupted, or at which the run failed, is visited again, and the run
    goes on from there, in a new Prefect flow run. The worktree is put back to the commit of the last finished stage first;
    the folder of a run without a repository stays as it is.

    Pipeline, settings and inputs are those of the run, unless given here; secrets are looked up again. Refused are a run that
    has succeeded, one that is running, and a pipeline that has changed (see `--force`); nothing is touched then.

    Output and exit code are those of `kilroy run`.
    """
    from kilroy_engine.cli.connection import Connection
    from kilroy_engine.execution.preparing.preparation import RunParameters, prepare_run
    from kilroy_engine.orchestration.tasks.call_checks import require_callable

    directory = find_run(run, root_of_runs(runs_root)).path.absolute()
    parameters = RunParameters(
        graph=str((graph.expanduser() if graph else directory / "graph.dot").absolute()),
        inputs=read_pairs(input),
        options=options_of_resume(directory, workers, limits, force=force),
        labels=read_pairs(label),
    )
    connection = Connection(say)
    try:
        prepared = prepare_run(parameters, environ=os.environ)
        if graph:
            warn(prepared)  # the first start has printed the warnings of the run's own pipeline
        connection.begin()
        connection.enter()
        require_callable(prepared)
    except InvalidPipeline as refusal:
        print_refusal(refusal, str(graph or directory / "graph.dot"))
        return ExitCode.FAIL
    return launch_and_follow(parameters)
