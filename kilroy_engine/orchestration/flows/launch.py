"""Runs the ``attractor`` flow in this process. ``kilroy run`` and ``kilroy resume`` call it once a server is known."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import cast
from uuid import UUID

import httpx
from prefect import State
from prefect.client.orchestration import get_client
from prefect.flow_engine import run_flow
from prefect.logging.handlers import PrefectConsoleHandler
from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings
from prefect.utilities.urls import url_for

from kilroy_engine.errors import KilroyError, RunCanceled, StopKind
from kilroy_engine.execution.preparing.preparation import RunParameters
from kilroy_engine.execution.preparing.settings import run_directory_path
from kilroy_engine.orchestration.ending.leaving import end_left_runs
from kilroy_engine.orchestration.ending.lost import cancel_bodiless
from kilroy_engine.orchestration.ending.told import asking_prefect
from kilroy_engine.orchestration.flows.attractor import attractor
from kilroy_engine.orchestration.locate import run_id_for
from kilroy_engine.orchestration.mark import MARK
from kilroy_engine.orchestration.states import final_status_of
from kilroy_engine.rundir.ending.starts import next_start
from kilroy_engine.rundir.ending.which_end_wins import CANCELED_BY_PREFECT
from kilroy_engine.rundir.files.layout import RunDirectory
from kilroy_engine.rundir.files.records import FinalOutcome
from kilroy_engine.rundir.ownership.ownership import run_id_in
from kilroy_engine.traversal.outcome import FinalStatus


@dataclass(frozen=True, slots=True)
class Started:
    """A start that is about to begin. A new run's directory does not exist yet. ``page_url`` is empty where no UI is known.

    ``start`` is the number of the start: 1 for a new run.
    """

    run: RunDirectory
    run_id: str
    flow_run_id: UUID
    page_url: str
    start: int = 1


class NotStarted(KilroyError):
    """The flow refused the run. The text is the reason."""


def launch(parameters: RunParameters, *, on_started: Callable[[Started], None]) -> FinalOutcome:
    """Runs the pipeline in this process, recorded on the API that Prefect's settings name, and returns the run's end.

    Creates the flow run first. Then calls ``on_started``, once, with the flow run's page and the run directory. Then runs the
    flow.

    Raises:
        NotStarted: The run was refused and left no end.
        RunCanceled: The run was canceled before it began.
    """
    given = {
        "graph": parameters.graph,
        "inputs": dict(parameters.inputs),
        "repo": parameters.repo,
        "options": parameters.options.model_dump(),
        "labels": dict(parameters.labels),
    }
    # No supervisor watches this flow run's heartbeat, and the end of the heartbeat's thread costs a second.
    with temporary_settings(updates={PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}), _quiet_console():
        with get_client(sync_client=True) as client:
            flow_run = client.create_flow_run(attractor, parameters=given, tags=[MARK])
        run_id = run_id_for(flow_run.id, parameters.options)
        run = RunDirectory(run_directory_path(parameters.options, run_id=run_id, environ=os.environ))
        resumed = bool(parameters.options.resume_from)
        on_started(
            Started(
                run=run,
                run_id=run_id_in(run) if resumed else run_id,
                flow_run_id=flow_run.id,
                page_url=url_for("flow-run", flow_run.id) or "",
                start=next_start(run) if resumed else 1,
            )
        )
        state: State | None = None
        try:
            state = cast("State", run_flow(attractor, flow_run=flow_run, parameters=given, return_type="state"))
            told = state.message or f"the flow run ended as {state.name}"
        except httpx.HTTPError as error:
            # Without a server Prefect runs no hook. The run's end must not depend on the server.
            told = f"the Prefect API does not answer any more: {str(error) or type(error).__name__}"
            end_left_runs()
    final = FinalOutcome.find(run)
    if final is not None and final.flow_run_id == str(flow_run.id):
        return final
    if state is not None and final_status_of(state) is FinalStatus.CANCELED:
        with asking_prefect() as prefect:
            cancel_bodiless(flow_run, prefect)
        raise RunCanceled(CANCELED_BY_PREFECT, kind=StopKind.PREFECT)
    raise NotStarted(told)


@contextmanager
def _quiet_console() -> Generator[None]:
    """Keeps Prefect's log lines off the terminal, where the command shows the run. The lines still go to the server."""
    root = logging.getLogger()
    removed = [handler for handler in root.handlers if isinstance(handler, PrefectConsoleHandler)]
    for handler in removed:
        root.removeHandler(handler)
    try:
        yield
    finally:
        for handler in removed:
            root.addHandler(handler)
