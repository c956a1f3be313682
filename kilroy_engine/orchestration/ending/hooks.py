"""The state hooks of the flow: all four are ``finalize``, which writes the end of the run.

Prefect calls a hook in the flow's process, in the runner's process or in a fresh process, with positional or keyword
arguments, and swallows what the hook raises. So the hook needs only its arguments and the disk, never the process's memory.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any, TypeAlias, TypedDict

import httpx
from prefect import Flow, State
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import FlowRun
from prefect.exceptions import PrefectException
from prefect.flows import FlowStateHook
from prefect.logging.loggers import flow_run_logger
from prefect.settings import PREFECT_CLIENT_MAX_RETRIES, temporary_settings

from kilroy_engine.errors import CorruptRecord, RunDirectoryError, RunSuperseded, StopKind
from kilroy_engine.execution.run import Run, live_run
from kilroy_engine.orchestration.ending.end_in_prefect import end_childrens_flow_runs, end_task_runs
from kilroy_engine.orchestration.locate import locate
from kilroy_engine.orchestration.noting import insist
from kilroy_engine.orchestration.page.prefect_events import announce_end
from kilroy_engine.orchestration.page.summary import publish_summary
from kilroy_engine.orchestration.states import agrees, end_state, observed_in
from kilroy_engine.rundir.ending.closing import HURRIED, ClosingLimits
from kilroy_engine.rundir.ending.finalize import end_run, owner_for
from kilroy_engine.rundir.ending.which_end_wins import UNSEEN
from kilroy_engine.rundir.files.layout import RunDirectory
from kilroy_engine.rundir.files.locks import is_held
from kilroy_engine.rundir.files.records import FinalOutcome
from kilroy_engine.rundir.stream.progress import is_ended
from kilroy_engine.workspace.closing import closing_of

Logger: TypeAlias = "logging.Logger | logging.LoggerAdapter[Any]"

REQUEST_LIMIT_S = 5.0
REQUEST_RETRIES = 1
"""Time limit (s) and retries of a hook's requests. After one request that fails, the hook tells no more of the end."""


def finalize(flow: Flow[..., Any], flow_run: FlowRun, state: State) -> None:
    """Writes ``final.json`` and then the terminal line of the run that ``flow_run`` owns. Then tells Prefect of the end.

    Called by Prefect when the flow run enters ``state``. Safe to call again and from several processes at once: the first end
    stays. The flow run of a refused run owns no run directory, so nothing is written.
    """
    logger = flow_run_logger(flow_run, flow)
    live = live_run(flow_run.id)
    if live is not None:
        live.started.lock.restore()
    run = live.directory if live is not None else locate(flow_run, os.environ)
    if run is None:
        logger.info("No run directory belongs to this flow run, so there is no end to write.")
        return
    if live is None and is_held(run.lock):
        logger.info("The run is at work in another process, which will write its end.")
        return
    over = is_over(run)
    try:
        final = _end(run, flow_run, state, live)
    except RunSuperseded as superseded:
        logger.warning("%s", superseded)
        return
    reason = f": {final.failure_reason}" if final.failure_reason else ""
    logger.info("Run %s ended with %s%s. Run directory: %s", final.run_id, final.status, reason, run.path)
    with telling(logger):
        _end_in_prefect(run, flow_run, state, final, in_flow_process=live is not None)
        if not over:  # otherwise another process has ended the run and published the end
            publish_end(run, final, flow_run, flow_name=flow.name)
    if live is not None and not _is_hurried(state, live):
        insist(flow_run.id)


def _is_hurried(state: State, live: Run) -> bool:
    """Whether a signal or a crash ends the process. Whoever sent the signal may kill the process soon."""
    stop = live.cancellation.stop
    return state.is_crashed() or (stop is not None and stop.kind is StopKind.SIGNAL)


def _end(run: RunDirectory, flow_run: FlowRun, state: State, live: Run | None) -> FinalOutcome:
    """Writes the end on disk, and closes ``live``, the run of this process.

    Where a signal interrupts the write, ``live.ending`` makes the process's exit end the run.
    """
    limits = ClosingLimits()
    if live is not None:
        live.ending = True
        limits = HURRIED if _is_hurried(state, live) else limits
    try:
        # The body of a Retry that was refused opened no start. The state that it returned says nothing about the earlier start.
        observed = observed_in(state) if live is not None or not _returned(state) else UNSEEN
        final = end_run(run, owner_for(run, flow_run.id), observed, closing=closing_of(run), limits=limits)
    except Exception:
        if live is not None:
            live.close()
        raise
    if live is not None:
        live.close()
    return final


def is_over(run: RunDirectory) -> bool:
    """Whether the last line of ``progress.ndjson`` is the terminal line."""
    try:
        return is_ended(run.progress)
    except CorruptRecord:
        return False  # a stage has damaged the file: that is no end


def _returned(state: State) -> bool:
    """Whether the state is one that only the flow's body returns."""
    return state.is_completed() or state.is_failed()


def publish_end(run: RunDirectory, final: FinalOutcome, flow_run: FlowRun, *, flow_name: str) -> None:
    """Sends the event of the run's end, then publishes the summary. The caller has written the terminal line.

    Call it inside :func:`telling`. A child pipeline sends no event, so that no automation takes its end for the end of a run.
    """
    if not run.supervisor.exists():
        with get_client(httpx_settings={"timeout": REQUEST_LIMIT_S}, sync_client=True) as client:
            announce_end(run, final, flow_run, flow_name=flow_name, client=client)
    publish_summary(run, flow_run, final)


def _end_in_prefect(run: RunDirectory, flow_run: FlowRun, state: State, final: FinalOutcome, *, in_flow_process: bool) -> None:
    """Sets Prefect's states where they differ from the end on disk, for example after a cancel and a crash at once.

    A runner that calls the hook for CANCELLING sets Cancelled itself. In the flow's process nobody else would do so.
    """
    by_runner = state.is_cancelling() and not in_flow_process
    if agrees(state, final) and in_flow_process:
        return
    if _returned(state) and not in_flow_process:
        return  # the state of a Retry that was refused says why
    with get_client(sync_client=True) as client:
        if not agrees(state, final) and not by_runner:
            client.set_flow_run_state(flow_run.id, end_state(final), force=True)
        if not in_flow_process:
            end_task_runs(flow_run.id, final, client=client)
            end_childrens_flow_runs(run, client=client)


@contextmanager
def telling(logger: Logger) -> Generator[None]:
    """Around requests to Prefect after the end. Limits their retries, and logs a failure instead of raising it.

    The end is on disk already, so a server that is away costs one line in the log and some seconds.
    """
    try:
        with temporary_settings(updates={PREFECT_CLIENT_MAX_RETRIES: REQUEST_RETRIES}):
            yield
    except (httpx.HTTPError, PrefectException, RunDirectoryError) as error:
        logger.warning("The end of the run is on disk, but Prefect could not be told everything: %s", error)


class Hooks(TypedDict):
    """The state hooks of a flow, by the names of Prefect's parameters."""

    on_completion: list[FlowStateHook[..., Any]]
    on_failure: list[FlowStateHook[..., Any]]
    on_crashed: list[FlowStateHook[..., Any]]
    on_cancellation: list[FlowStateHook[..., Any]]


HOOKS: Hooks = {
    "on_completion": [finalize],
    "on_failure": [finalize],
    "on_crashed": [finalize],
    "on_cancellation": [finalize],
}
"""The state hooks for every flow that runs a pipeline: ``@flow(**HOOKS)``."""
