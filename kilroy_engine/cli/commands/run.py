"""``kilroy run``: runs one pipeline in this process and shows the run to its end."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from kilroy_engine.cli.errors import ExitCode, exit_code_of
from kilroy_engine.cli.run_options import IdentityFlags, LimitFlags, PlaceFlags, WorkerFlags, options_of, read_pairs
from kilroy_engine.cli.show.diagnostics import print_diagnostic, print_refusal
from kilroy_engine.cli.show.streams import print_json, say
from kilroy_engine.cli.source import STANDARD_INPUT, STANDARD_INPUT_NAME, no_option, read_standard_input
from kilroy_engine.errors import AgentsRefused, InvalidInput, InvalidPipeline
from kilroy_engine.graph.diagnostics import Severity

if TYPE_CHECKING:
    from kilroy_engine.cli.connection import Connection
    from kilroy_engine.execution.preparing.preflight import Check
    from kilroy_engine.execution.preparing.preparation import PreparedRun, RunParameters
    from kilroy_engine.orchestration.flows.launch import Started
    from kilroy_engine.rundir.files.records import FinalOutcome


def run(
    file: Annotated[
        str,
        Parameter(
            name="FILE",
            allow_leading_hyphen=True,
            validator=no_option,
            help="Pipeline file, or folder of a workflow package; `-` reads DOT from standard input.",
        ),
    ],
    /,
    *,
    identity: Annotated[IdentityFlags, Parameter(name="*")] = IdentityFlags(),  # noqa: B008  # frozen
    place: Annotated[PlaceFlags, Parameter(name="*")] = PlaceFlags(),  # noqa: B008  # frozen
    workers: Annotated[WorkerFlags, Parameter(name="*")] = WorkerFlags(),  # noqa: B008  # frozen
    limits: Annotated[LimitFlags, Parameter(name="*")] = LimitFlags(),  # noqa: B008  # frozen
    preflight: Annotated[bool, Parameter(help="Check everything that can refuse the run, and start nothing.")] = False,
    json: Annotated[bool, Parameter(help="With `--preflight`: print the report on agents as JSON, and write no file.")] = False,
) -> int:
    """Run a pipeline and follow it to its end.

    The run is a Prefect flow run. Where Prefect is configured (`PREFECT_API_URL` or a profile) it is recorded there; otherwise
    on a local server, which is started when none runs and which later runs use again.

    On success standard output gets exactly `run_id=`, `logs_root=`, `worktree=`, `run_branch=` and `final_commit=`; everything
    else goes to standard error. The exit code is 0 after a success, 1 after a failure or when the run could not start, 2 for a
    command line that cannot be understood and 130 when the run was canceled. Ctrl-C cancels the run; a second one ends it at
    once.
    """
    from kilroy_engine.cli.connection import Connection
    from kilroy_engine.execution.preparing.pipeline_file import pipeline_file
    from kilroy_engine.execution.preparing.preparation import prepare_run
    from kilroy_engine.orchestration.tasks.call_checks import require_callable

    text = read_standard_input() if file == STANDARD_INPUT else ""
    parameters = _parameters(text or str(Path(file).expanduser().absolute()), identity, place, workers, limits)
    connection = Connection(say)
    try:
        if preflight:
            return _check_only(parameters, connection, as_json=json)
        if json:
            raise InvalidInput("--json goes with --preflight: a run says what it does on standard error", name="json")
        prepared = prepare_run(parameters, environ=os.environ)
        warn(prepared)
        connection.begin()
        connection.enter()
        require_callable(prepared)
    except InvalidPipeline as refusal:
        print_refusal(refusal, STANDARD_INPUT_NAME if text else pipeline_file(file))
        return ExitCode.FAIL
    return launch_and_follow(parameters)


def _parameters(
    graph: str, identity: IdentityFlags, place: PlaceFlags, workers: WorkerFlags, limits: LimitFlags
) -> RunParameters:
    from kilroy_engine.execution.preparing.preparation import RunParameters

    return RunParameters(
        graph=graph,
        inputs=read_pairs(identity.input),
        repo=str(place.repo.expanduser().absolute()) if place.repo else "",
        options=options_of(identity, place, workers, limits),
        labels=read_pairs(identity.label),
    )


def warn(prepared: PreparedRun) -> None:
    """Prints the warnings of the checks and of the settings, before the run begins."""
    shown = _shown(prepared.filename)
    warnings = [diagnostic for diagnostic in prepared.diagnostics if diagnostic.severity == Severity.WARNING]
    for diagnostic in warnings:
        print_diagnostic(shown, diagnostic, stderr=True, brief=True)
    if warnings:
        say(f"`kilroy validate` shows how to mend {'it' if len(warnings) == 1 else 'them'}")
    for warning in prepared.settings.warnings:
        say(f"warning: {warning}")


def _shown(filename: str) -> str:
    """The file's absolute or relative path, whichever is shorter."""
    relative = os.path.relpath(filename) if os.path.isabs(filename) else filename  # noqa: PTH117  # relpath has no Path form that may climb
    return min(filename, relative, key=len)


def _check_only(parameters: RunParameters, connection: Connection, *, as_json: bool) -> int:
    """What can be known of the run without starting anything; the report on its agents goes to a file or to standard output."""
    from kilroy_engine.events.times import now
    from kilroy_engine.execution.preparing.preflight import (
        Surroundings,
        checked_agents,
        place_of_agents,
        preflight_path,
        preflight_report,
        warnings_of,
    )
    from kilroy_engine.execution.preparing.preparation import prepare_run
    from kilroy_engine.orchestration.tasks.call_checks import require_callable
    from kilroy_engine.rundir.files.atomic import write_json

    began = now()
    report = preflight_path(parameters.options, name=Path(parameters.graph).stem, environ=os.environ)

    def tell(checks: Sequence[Check], *, versions: bool) -> None:
        content = preflight_report(checks, began=began, ended=now(), versions=versions)
        if as_json:
            print_json(content)
            return
        if not checks:
            return  # a pipeline without agents
        report.parent.mkdir(parents=True, exist_ok=True)
        write_json(report, content)
        print(f"preflight_report={report}")

    try:
        server = connection.check()
        prepared = prepare_run(parameters, environ=os.environ)
        require_callable(prepared, ask_server=False)
    except AgentsRefused as refusal:
        tell(refusal.checks, versions=False)
        raise
    warn(prepared)
    around = Surroundings(os.environ, place_of_agents(prepared.settings, Path.cwd()))
    checks = checked_agents(prepared.graph, prepared.agents, around, versions=True)
    for message in set(warnings_of(checks)) - set(prepared.settings.warnings):
        say(f"warning: {message}")
    if not as_json:
        print("preflight=ok")
        print(f"pipeline={prepared.name}")
        print(f"nodes={len(prepared.graph.nodes)}")
        print(f"edges={len(prepared.graph.edges)}")
        print(f"server={server}")
    tell(checks, versions=True)
    return ExitCode.SUCCESS


def launch_and_follow(parameters: RunParameters) -> int:
    """Runs the pipeline in this process, shows the run, prints its end. Returns the exit code. Also used by ``resume``."""
    from kilroy_engine.cli.show.outcome import print_failure, print_success
    from kilroy_engine.cli.show.view import Follower, choose_view
    from kilroy_engine.orchestration.flows.launch import launch

    followers: list[Follower] = []
    runs: list[Started] = []

    def follow(started: Started) -> None:
        say(f"Run {started.run_id}")
        say(f"  logs  {started.run.path}")
        if started.page_url:
            say(f"  page  {started.page_url}")
        runs.append(started)
        followers.append(Follower(started.run, choose_view(started.run), start=started.start))

    try:
        final: FinalOutcome = launch(parameters, on_started=follow)
    finally:
        for follower in followers:
            follower.stop()
    code = exit_code_of(final.status)
    if code == ExitCode.SUCCESS:
        print_success(runs[0].run, final)
    else:
        print_failure(runs[0].run, final)
    sys.stdout.flush()
    return code
