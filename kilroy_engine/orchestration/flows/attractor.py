"""The ``attractor`` flow: carries out one run, from parameters to a Prefect state. Its state hooks write the run's end."""

# No `from __future__ import annotations` here: `attractor.serve()` makes Prefect load this file by its path, outside of the
# package. Annotations that are text cannot be resolved there.
import os
import re
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

from prefect import State, flow, get_run_logger
from prefect.context import FlowRunContext
from prefect.runtime import flow_run as current
from prefect.states import Completed, Failed

from kilroy_engine.errors import KilroyError, PipelineNotFound, RunAlreadyFinished
from kilroy_engine.execution.conduct import conduct
from kilroy_engine.execution.effects import carry_out
from kilroy_engine.execution.opening import OpenedRun, open_run
from kilroy_engine.execution.preparing.pipeline_file import name_by_file, read_pipeline
from kilroy_engine.execution.preparing.preparation import RunParameters, prepare_run
from kilroy_engine.execution.run import Run
from kilroy_engine.orchestration.ending.hooks import HOOKS
from kilroy_engine.orchestration.ending.leaving import end_at_exit
from kilroy_engine.orchestration.ending.reconcile import reconciling
from kilroy_engine.orchestration.ending.takeover import end_earlier_flow_runs
from kilroy_engine.orchestration.flows.interrupts import interrupts_cancel
from kilroy_engine.orchestration.locate import earlier_start, identity_of
from kilroy_engine.orchestration.mark import mark
from kilroy_engine.orchestration.page.prefect_events import relay
from kilroy_engine.orchestration.states import to_flow_state
from kilroy_engine.orchestration.tasks.branch_pool import branch_pool
from kilroy_engine.orchestration.tasks.orchestrator import PrefectOrchestrator
from kilroy_engine.rundir.files.layout import runs_root
from kilroy_engine.settings.options import Options

_GRAPH_NAME = re.compile(r'\bdigraph\s+(?:"(?P<quoted>[^"\n]+)"|(?P<bare>[A-Za-z_][A-Za-z0-9_]*))')


def flow_run_name() -> str:
    """Name of the current flow run: the graph's name and the last six characters of the flow run's id. Called by Prefect."""
    return name_of_flow_run(str(current.parameters.get("graph", "")))


def name_of_flow_run(graph: str) -> str:
    """Name of the current flow run for the pipeline in ``graph``, a path or DOT text."""
    try:
        source, filename = read_pipeline(graph)
    except PipelineNotFound:
        source, filename = "", graph
    match = _GRAPH_NAME.search(source)
    name = (match["quoted"] or match["bare"]) if match else name_by_file(filename)
    return f"{name or 'pipeline'}-{str(current.id)[-6:]}"


@flow(name="attractor", flow_run_name=flow_run_name, persist_result=False, **HOOKS)
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
    """The body of every flow that runs a pipeline: opens and conducts the run of the current flow run.

    Returns Failed where the run is refused. After *Retry* in Prefect's UI the body resumes the earlier run, or returns
    Completed where that run has succeeded.
    """
    context = FlowRunContext.get()
    assert context is not None
    assert context.flow_run is not None
    mark(context.flow_run)
    retried = earlier_start(context.flow_run, os.environ)
    try:
        prepared = prepare_run(parameters.resuming(retried) if retried else parameters, environ=os.environ)
        prefect = PrefectOrchestrator(branch_pool(prepared.settings.task_runner))
        prefect.check(prepared)
        opened = open_run(prepared, identity_of(context.flow_run), prefect, carry_out, environ=os.environ)
    except RunAlreadyFinished as finished:
        if retried:
            return Completed(message=f"already succeeded: {finished}")
        return _refused(finished)
    except KilroyError as refusal:
        return _refused(refusal)
    for warning in prepared.settings.warnings:
        get_run_logger().warning("%s", warning)
    if prepared.earlier is not None:
        end_earlier_flow_runs(opened)
    return _conducted(opened, prefect)


def _refused(refusal: KilroyError) -> State:
    get_run_logger().error("The run was refused: %s", refusal)
    return Failed(message=str(refusal))


def _conducted(opened: OpenedRun, prefect: PrefectOrchestrator) -> State:
    """Conducts the opened run and returns the state of the flow run."""
    end_at_exit()
    conclusion = conduct(opened, _beside(opened.run, prefect))
    # A supervisor that sees CANCELLING would send a signal to this process, which is about to end by itself.
    return to_flow_state(conclusion, tell_canceling=not opened.run.identity.supervised)


@contextmanager
def _beside(run: Run, prefect: PrefectOrchestrator) -> Generator[None]:
    """What goes on beside the walk: limits on tags are watched, lost runs ended, signals handled, events sent to Prefect."""
    with (
        prefect.at_work(),
        reconciling(runs_root(os.environ)),
        interrupts_cancel(run.cancellation, enabled=not run.identity.supervised),
    ):
        relay(run)
        yield
