"""What Prefect is told when a start takes a run over from another flow run."""

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
    """Tells Prefect how the start before ended, where its process died unseen and its flow run would count as running on.

    Child pipelines that died with it get their end first, on disk too.
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
        # Another server may have recorded that start, or its record is deleted; the run itself needs neither.
        get_run_logger().info("The flow run of the start before could not be ended: %s", error)


def _earlier_flow_runs(opened: OpenedRun) -> Iterator[str]:
    """A start that was killed while it began is in one of the records only."""
    if opened.prepared.earlier is not None:
        yield opened.prepared.earlier.manifest.flow_run_id
    lock = opened.run.started.lock
    if lock.previous is not None:
        yield lock.previous.flow_run_id
