"""Makes the calls that handlers ask for: a task becomes a task run inside of the node's, a flow a subflow run, a deployment a
flow run on a worker."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import Any, assert_never, cast
from uuid import UUID

import httpx
from prefect import State
from prefect.client.schemas.objects import FlowRun, TaskRun
from prefect.deployments import run_deployment
from prefect.exceptions import ObjectNotFound, PrefectHTTPStatusError
from prefect.states import Cancelled, Cancelling
from prefect.utilities.urls import url_for

from kilroy_engine.errors import InvalidInput, PermanentStageError, TransientStageError
from kilroy_engine.execution.ports import CallPlace
from kilroy_engine.graph.callees import DeploymentCallee, ObjectCallee
from kilroy_engine.handlers.base import CallPrefect
from kilroy_engine.orchestration.ending.told import asking_prefect
from kilroy_engine.orchestration.tasks.arguments import check_names, schema_arguments, typed_arguments
from kilroy_engine.orchestration.tasks.call_result import RESULT_FILE, outcome_of_error, outcome_of_state
from kilroy_engine.orchestration.tasks.callee import Callee, find_callee, find_deployment
from kilroy_engine.orchestration.tasks.threaded import ThreadedCall, WaitEnd
from kilroy_engine.processes.go_text import duration_text
from kilroy_engine.rundir.files.atomic import write_json
from kilroy_engine.rundir.files.regular import remove
from kilroy_engine.traversal.failure import FailureClass
from kilroy_engine.traversal.outcome import Outcome, failure

CALL_FILE = "prefect_call.json"
_POLL_S = 2.0
_POLL_PATIENCE_S = 120.0
"""How long the server may be away while a call waits for a deployment's flow run."""
_log = logging.getLogger(__name__)


def make_call(call: CallPrefect, place: CallPlace) -> Outcome:
    """Makes the call, waits for its end and returns the outcome of the node.

    A stop of the run or the node's time limit ends the wait. The callee is then stopped, as far as it can be.
    """
    record = _Record(call, place.stage_dir)
    try:
        match call.target:
            case ObjectCallee() as reference:
                return _call_object(call, find_callee(reference, call.node_type), place, record)
            case DeploymentCallee() as reference:
                return _run_deployment(call, reference, place, record)
            case _:
                assert_never(call.target)
    except InvalidInput as refusal:
        return failure(f"{_what(call)} cannot be called: {refusal}", failure_class=FailureClass.DETERMINISTIC)
    finally:
        record.write()


def _what(call: CallPrefect) -> str:
    kind = "deployment" if isinstance(call.target, DeploymentCallee) else call.node_type.removeprefix("prefect.")
    return f"{kind} {call.target}"


class _Record:
    """``prefect_call.json`` in the stage's directory: the callee, its arguments, and the Prefect run that the call became."""

    def __init__(self, call: CallPrefect, stage_dir: Path) -> None:
        self._path = stage_dir / CALL_FILE
        self._began = time.monotonic()
        self._facts: dict[str, Any] = {"type": call.node_type, "ref": str(call.target), "parameters": dict(call.parameters)}
        self.run: FlowRun | TaskRun | None = None
        remove(stage_dir / RESULT_FILE)  # an earlier attempt's
        self.write()

    def note(self, run: FlowRun | TaskRun) -> None:
        """Writes the run that the call became to the file. Called when the run begins."""
        self.run = run
        key = "flow_run" if isinstance(run, FlowRun) else "task_run"
        self._facts |= {f"{key}_id": str(run.id), f"{key}_name": run.name, "page_url": url_for(run) or ""}
        self.write()

    def state(self, state: State) -> None:
        self._facts |= {"state": state.name, "message": state.message or ""}
        self._facts["duration_ms"] = round((time.monotonic() - self._began) * 1000)

    def write(self) -> None:
        write_json(self._path, self._facts, durable=False)


def _call_object(call: CallPrefect, callee: Callee, place: CallPlace, record: _Record) -> Outcome:
    check_names(callee.fn, call.parameters)
    arguments = typed_arguments(callee.fn, call.parameters)

    def noted(subject: Any, run: FlowRun | TaskRun, state: State) -> None:
        record.note(run)

    hooks: list[Any] = [*callee.on_running_hooks, noted]  # only this hook gives the run's id before the run ends
    watched = callee.with_options(on_running=hooks)
    threaded = ThreadedCall(lambda: watched(**arguments, return_state=True), name=f"kilroy-call-{place.node_id}")
    try:
        end = threaded.wait(place.cancellation, call.timeout_s)
    except BaseException:
        threaded.stop(grace_s=0)
        _end_run(record, "the run that called it was interrupted")
        raise
    if end is not WaitEnd.RETURNED:
        came_back = threaded.stop()
        stopped = _stopped(call, end, place)
        _end_run(record, stopped.failure_reason)
        left = "it does not let itself be stopped and goes on in the background until the process of the run ends"
        return stopped if came_back else stopped.with_updates(notes=left)
    if isinstance(threaded.error, Exception):
        return outcome_of_error(threaded.error, place.stage_dir)
    if threaded.error is not None:
        # Prefect has recorded a crash. A callee that calls sys.exit() fails its node and must not end the run.
        return failure(f"{_what(call)} crashed: {type(threaded.error).__name__}: {threaded.error}")
    return _outcome_of_end(threaded.value, call, place, record)


def _run_deployment(call: CallPrefect, reference: DeploymentCallee, place: CallPlace, record: _Record) -> Outcome:
    try:
        deployment = find_deployment(reference)
        schema, defaults = deployment.parameter_openapi_schema or {}, deployment.parameters
        arguments = schema_arguments(schema, call.parameters, defaults=defaults)
        # timeout=0: Prefect's own wait cannot be interrupted. No event loop runs here, so the call returns no coroutine.
        flow_run = cast("FlowRun", run_deployment(name=str(reference), parameters=arguments, timeout=0))
    except PrefectHTTPStatusError as error:
        return failure(f"{_what(call)} was refused by the server: {_detail_of(error)}")
    except httpx.TransportError as error:
        raise TransientStageError(f"the Prefect API does not answer: {str(error) or type(error).__name__}") from error
    record.note(flow_run)
    try:
        end, state = _wait_for(flow_run, place, call.timeout_s)
    except BaseException:
        _end_run(record, "the run that called it was interrupted")
        raise
    if state is None:
        stopped = _stopped(call, end, place)
        _end_run(record, stopped.failure_reason)
        return stopped
    return _outcome_of_end(state, call, place, record)


def _outcome_of_end(state: State, call: CallPrefect, place: CallPlace, record: _Record) -> Outcome:
    record.state(state)
    return outcome_of_state(state, what=_what(call), node_id=place.node_id, stage_dir=place.stage_dir)


def _wait_for(flow_run: FlowRun, place: CallPlace, timeout_s: float | None) -> tuple[WaitEnd, State | None]:
    """Waits for the flow run's terminal state. The state is None where a stop or the time limit ended the wait.

    Every new state of the flow run counts as progress for the stall watchdog.

    Raises:
        TransientStageError: The server does not answer for longer than two minutes.
        PermanentStageError: The server does not know the flow run any more.
    """
    now = time.monotonic()
    ends, answered, seen = None if timeout_s is None else now + timeout_s, now, ""
    while not place.cancellation.wait(_POLL_S):
        now = time.monotonic()
        with asking_prefect() as prefect:
            told = prefect.flow_run(str(flow_run.id))
        if told.reachable and told.flow_run is None:
            raise PermanentStageError(f"flow run {flow_run.name} was deleted while it was waited for")
        answered = now if told.reachable else answered
        if now - answered > _POLL_PATIENCE_S:
            raise TransientStageError(f"the Prefect API does not answer; flow run {flow_run.name} may still be at work")
        state = told.flow_run.state if told.flow_run else None
        if state is not None and state.is_final():
            return WaitEnd.RETURNED, state
        if state is not None and state.name != seen:
            seen = state.name or ""
            place.alive()
        if ends is not None and now >= ends:
            return WaitEnd.TIMED_OUT, None
    return WaitEnd.CANCELED, None


def _stopped(call: CallPrefect, end: WaitEnd, place: CallPlace) -> Outcome:
    if end is WaitEnd.CANCELED:
        return failure(place.cancellation.reason, failure_class=FailureClass.CANCELED)
    limit = duration_text(call.timeout_s or 0)
    return failure(f"{_what(call)} timed out after {limit}").with_updates(timed_out=True)


def _end_run(record: _Record, reason: str) -> None:
    """Ends the callee's run in Prefect. A worker's flow run gets CANCELLING; a run of this process gets Cancelled."""
    run = record.run
    if run is None:
        return
    try:
        with asking_prefect() as prefect:
            match run:
                case FlowRun(deployment_id=UUID()):
                    prefect.client.set_flow_run_state(run.id, Cancelling(message=reason))
                case FlowRun():
                    prefect.client.set_flow_run_state(run.id, Cancelled(message=reason), force=True)
                case TaskRun():
                    prefect.client.set_task_run_state(run.id, Cancelled(message=reason), force=True)
    except (httpx.HTTPError, ObjectNotFound) as error:
        # The server knows a task run only some time after the task run began.
        _log.warning("%s %s could not be canceled: %s", type(run).__name__, run.id, error)


def _detail_of(error: PrefectHTTPStatusError) -> str:
    try:
        return str(error.response.json().get("detail", error))
    except ValueError:
        return str(error)
