"""The ``attractor`` flow: one pipeline run, from parameters to a Prefect state. Its state hooks write the end."""

# No `from __future__ import annotations` here: `attractor.serve()` makes Prefect load this file by its path, outside of the
# package, where annotations given as text cannot be looked up.
import os
import re
from contextlib import closing
from typing import Any

from prefect import State, flow, get_run_logger
from prefect.context import FlowRunContext
from prefect.runtime import flow_run as current
from prefect.states import Completed, Failed

from kilroy_engine.errors import KilroyError, PipelineNotFound, RunAlreadyFinished
from kilroy_engine.orchestration.call_checks import require_callable
from kilroy_engine.orchestration.hooks import finalize
from kilroy_engine.orchestration.interrupts import interrupts_cancel
from kilroy_engine.orchestration.leaving import end_at_exit
from kilroy_engine.orchestration.locate import Identity, earlier_start
from kilroy_engine.orchestration.opening import OpenRun, open_run
from kilroy_engine.orchestration.pipeline_file import name_by_file, read_pipeline
from kilroy_engine.orchestration.prefect_events import relay
from kilroy_engine.orchestration.preparation import RunParameters, prepare_run
from kilroy_engine.orchestration.reconcile import reconciling
from kilroy_engine.orchestration.settings import Options
from kilroy_engine.orchestration.states import to_flow_state
from kilroy_engine.orchestration.takeover import settle_earlier_flow_runs
from kilroy_engine.orchestration.walking import walk_through
from kilroy_engine.orchestration.watch import DEADLINE, watching
from kilroy_engine.rundir.files.layout import runs_root

_GRAPH_NAME = re.compile(r'\bdigraph\s+(?:"(?P<quoted>[^"\n]+)"|(?P<bare>[A-Za-z_][A-Za-z0-9_]*))')


def flow_run_name() -> str:
    """Name of the flow run: the graph's name and the end of the flow run's id."""
    return name_of_flow_run(str(current.parameters.get("graph", "")))


def name_of_flow_run(graph: str) -> str:
    """The same for the pipeline in ``graph``, a path or DOT text."""
    try:
        source, filename = read_pipeline(graph)
    except PipelineNotFound:
        source, filename = "", graph
    match = _GRAPH_NAME.search(source)
    name = (match["quoted"] or match["bare"]) if match else name_by_file(filename)
    return f"{name or 'pipeline'}-{str(current.id)[-6:]}"


@flow(
    name="attractor",
    flow_run_name=flow_run_name,
    persist_result=False,
    on_completion=[finalize],
    on_failure=[finalize],
    on_crashed=[finalize],
    on_cancellation=[finalize],
)
def attractor(
    graph: str,
    inputs: dict[str, str] = {},  # noqa: B006 - a factory would show as required in the form
    repo: str = "",
    options: Options = Options(),  # noqa: B008 - the same
    labels: dict[str, str] = {},  # noqa: B006 - the same
) -> Any:
    """Runs an Attractor pipeline: every node visit is a task run, every stage of a git run a commit.

    Args:
        graph: Path of a DOT file or of a workflow package's folder, relative to the deployment's folder, or DOT text itself.
            Empty in a resume: the run's own.
        inputs: Inputs of the pipeline, name to text. secret:NAME is a Prefect Secret block, env:NAME an environment variable.
        repo: Repository to work on. Empty: the one around the flow's working folder, if there is one.
        options: Everything that is rarely changed.
        labels: Labels of the run, for finding it again, name to text.
    """
    return run_pipeline(RunParameters(graph=graph, inputs=inputs, repo=repo, options=options, labels=labels))


def run_pipeline(parameters: RunParameters) -> State:
    """The body of every flow that runs a pipeline: opens the run of the current flow run, or refuses it, and conducts it."""
    context = FlowRunContext.get()
    assert context is not None
    assert context.flow_run is not None
    retried = earlier_start(context.flow_run, os.environ)
    try:
        prepared = prepare_run(parameters.resuming(retried) if retried else parameters, environ=os.environ)
        require_callable(prepared)
        run = open_run(prepared, Identity.of(context.flow_run), environ=os.environ)
    except RunAlreadyFinished as finished:
        if retried:
            return Completed(message=f"already succeeded: {finished}")
        return _refused(finished)
    except KilroyError as refusal:
        return _refused(refusal)
    if prepared.earlier is not None:
        settle_earlier_flow_runs(run)
    return conduct(run)


def _refused(refusal: KilroyError) -> State:
    get_run_logger().error("The run was refused: %s", refusal)
    return Failed(message=str(refusal))


def conduct(run: OpenRun) -> State:
    """Walks the pipeline of an opened run, stages its conclusion on disk and returns the flow's final state.

    Whatever passes through here, a termination signal included, leaves no child process behind.
    """
    end_at_exit()
    try:
        with (
            closing(run.prepared.pool),
            reconciling(runs_root(os.environ)),
            interrupts_cancel(run.cancellation, enabled=not run.identity.supervised),
            watching(run),
            run.limits.watched(),
        ):
            relay(run)
            status, reason = walk_through(run)
    except BaseException as passing:
        run.interrupted(passing)
        raise
    conclusion = run.conclude(status, reason)
    source = run.cancellation.source
    # A supervisor that meets CANCELLING would signal a process that is about to end by itself.
    unknown_to_prefect = source.startswith("by ") and not run.identity.supervised
    return to_flow_state(conclusion, deadline=source.startswith(DEADLINE), by_signal=unknown_to_prefect)
