"""Sets Prefect's states after an end on disk: of the flow run, of its unfinished task runs, of child pipelines."""

from __future__ import annotations

from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId, TaskRunFilter
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.exceptions import ObjectNotFound
from prefect.states import Cancelled, Crashed

from kilroy_engine.orchestration.states import agrees, end_state
from kilroy_engine.rundir.files.layout import RunDirectory
from kilroy_engine.rundir.files.records import FinalOutcome
from kilroy_engine.rundir.stages.children import child_directories
from kilroy_engine.traversal.outcome import FinalStatus

UNFINISHED = (StateType.RUNNING, StateType.PENDING, StateType.CANCELLING)


def end_flow_run(flow_run: FlowRun, final: FinalOutcome, *, client: SyncPrefectClient) -> None:
    """Sets the flow run's terminal state where ``flow_run`` shows another end or none.

    Raises:
        httpx.HTTPError: The server did not accept the state.
    """
    if agrees(flow_run.state, final):
        return
    # Forced: Prefect's ordinary rules let a flow run leave neither CANCELLING nor a terminal state.
    client.set_flow_run_state(flow_run.id, end_state(final), force=True)


def end_task_runs(flow_run_id: UUID, final: FinalOutcome, *, client: SyncPrefectClient) -> int:
    """Ends the flow run's task runs that Prefect still shows at work. Returns their number.

    Call it only when no process works on the run.

    Raises:
        httpx.HTTPError: The server did not answer, or did not accept a state.
    """
    left = client.read_task_runs(
        flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=[flow_run_id])),
        task_run_filter=TaskRunFilter.model_validate({"state": {"type": {"any_": list(UNFINISHED)}}}),
    )
    canceled = final.status is FinalStatus.CANCELED
    for task_run in left:
        message = final.failure_reason or "the run has ended"
        state = Cancelled(message=message) if canceled else Crashed(message=message)
        client.set_task_run_state(task_run.id, state, force=True)
    return len(left)


def end_childrens_flow_runs(run: RunDirectory, *, client: SyncPrefectClient) -> None:
    """Ends the flow runs of the run's ended child pipelines that Prefect shows otherwise, and their task runs.

    Call it only when no process works on the run.

    Raises:
        httpx.HTTPError: The server did not answer, or did not accept a state.
    """
    for child in child_directories(run):
        final = FinalOutcome.find(child)
        if final is None or not final.flow_run_id:
            continue
        try:
            flow_run = client.read_flow_run(UUID(final.flow_run_id))
        except ObjectNotFound:
            continue  # another server has recorded the flow run, or somebody has deleted it
        if not agrees(flow_run.state, final):
            end_flow_run(flow_run, final, client=client)
            end_task_runs(flow_run.id, final, client=client)
