"""Ends in Prefect the flow runs of earlier starts, when a new start takes the run over."""

from __future__ import annotations

from collections.abc import Iterator
from uuid import UUID

import httpx
from prefect import get_run_logger
from prefect.client.orchestration import get_client
from prefect.exceptions import PrefectException
from prefect.states import Crashed

from kilroy_engine.execution.opening import OpenedRun
from kilroy_engine.orchestration.ending.end_in_prefect import end_childrens_flow_runs
from kilroy_engine.orchestration.states import end_state
from kilroy_engine.rundir.ending.closing import HURRIED
from kilroy_engine.rundir.ending.finalize import end_children
from kilroy_engine.rundir.ending.which_end_wins import CRASHED


def end_earlier_flow_runs(opened: OpenedRun) -> None:
    """Sets the end of the earlier start's flow run, where that start's process died and Prefect still shows it running.

    Called once, at a resume. First ends, on disk and in Prefect, the child pipelines that died with the earlier start.
    """
    run = opened.run
    previous = run.started.previous
    if previous is not None:
        end_children(run.directory, previous, HURRIED)
    state = end_state(previous) if previous else Crashed(message=CRASHED)
    try:
        with get_client(sync_client=True) as client:
            for flow_run_id in set(_earlier_flow_runs(opened)) - {str(run.identity.flow_run_id), ""}:
                told = client.read_flow_run(UUID(flow_run_id)).state
                if told is None or not told.is_final():
                    client.set_flow_run_state(UUID(flow_run_id), state, force=True)
            end_childrens_flow_runs(run.directory, client=client)
    except (httpx.HTTPError, PrefectException, ValueError) as error:
        # Another server may have recorded the earlier flow run, or somebody has deleted it. The new start needs neither.
        get_run_logger().info("The flow run of the start before could not be ended: %s", error)


def _earlier_flow_runs(opened: OpenedRun) -> Iterator[str]:
    """Flow run ids in the earlier manifest and the lock's earlier record. A start that was killed while it opened is in one."""
    if opened.prepared.earlier is not None:
        yield opened.prepared.earlier.manifest.flow_run_id
    lock = opened.run.started.lock
    if lock.previous is not None:
        yield lock.previous.flow_run_id
