"""Turns the result of a call (a Prefect state, an exception or a value) into the outcome of the call node."""

from __future__ import annotations

import dataclasses
import json
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from prefect import State
from prefect.client.schemas.objects import StateType
from prefect.exceptions import FailedRun
from pydantic import BaseModel
from pydantic_core import PydanticSerializationError, to_jsonable_python

from kilroy_engine.errors import KilroyError
from kilroy_engine.events.encoding import indented
from kilroy_engine.rundir.files.atomic import write_bytes, write_text
from kilroy_engine.traversal.failure import FailureClass, failure_of_exception
from kilroy_engine.traversal.outcome import Json, Outcome, failure, success

RESULT_LIMIT_BYTES = 64 * 1024
"""The largest result, as JSON, that goes into the context. The file in the stage's directory holds a larger result too."""
RESULT_FILE = "result.json"


def outcome_of_state(state: State, *, what: str, node_id: str, stage_dir: Path) -> Outcome:
    """The node's outcome for a terminal state of the callee. ``what`` names the call in messages, such as ``task etl:load``."""
    told = state.message or f"no message, state {state.name}"
    match state.type:
        case StateType.COMPLETED:
            return _completed(state, what, node_id, stage_dir)
        case StateType.CANCELLED | StateType.CANCELLING:
            return failure(f"{what} was canceled: {told}", failure_class=FailureClass.CANCELED)
        case StateType.CRASHED:
            return failure(f"{what} crashed: {told}", failure_class=FailureClass.TRANSIENT_INFRA)
        case StateType.FAILED:
            error = _data_of(state)
            raised = isinstance(error, Exception) and not isinstance(error, FailedRun)  # Prefect's stand-in for no exception
            return outcome_of_error(error, stage_dir) if raised else failure(f"{what} failed: {told}")
        case _:
            return failure(f"{what} ended as {state.name}: {told}")


def outcome_of_error(error: Exception, stage_dir: Path) -> Outcome:
    """The node's failure for an exception of the callee. Writes the traceback to ``panic.txt`` in the stage's directory."""
    text = f"{error}\n\n{''.join(traceback.format_exception(error))}"
    write_text(stage_dir / "panic.txt", text)
    outcome = failure_of_exception(error).with_updates(notes="the call raised; see panic.txt")
    if isinstance(error, KilroyError):
        return outcome
    reason = " ".join(f"{type(error).__name__}: {error}".split()).rstrip(": ")
    return outcome.with_updates(failure_reason=reason)


def outcome_of_value(value: Any, *, what: str, node_id: str, stage_dir: Path) -> Outcome:
    """The node's outcome for a value that the callee returned.

    An :class:`Outcome` is returned unchanged. None gives success. A mapping, a pydantic model or a dataclass becomes context
    updates, one per field. Any other value becomes the context update ``<node id>.result``. The value is written as JSON to
    ``result.json``. A value that is no JSON, or is too large, makes no context update, and the outcome's notes say why.
    """
    done = f"{what} completed"
    if isinstance(value, Outcome):
        return value
    if value is None:
        return success(done)
    by_field = isinstance(value, Mapping | BaseModel) or dataclasses.is_dataclass(value)
    try:
        content = indented(to_jsonable_python(value))
    except (PydanticSerializationError, ValueError, TypeError, RecursionError) as error:
        why = " ".join(str(error).split())
        return success(f"{done}; its result, a {type(value).__name__}, is not kept: it is no JSON ({why})")
    write_bytes(stage_dir / RESULT_FILE, content, durable=False)
    if len(content) > RESULT_LIMIT_BYTES:
        return success(
            f"{done}; its result is too large for the context ({len(content)} bytes, the limit is {RESULT_LIMIT_BYTES}): "
            f"it is in {stage_dir / RESULT_FILE}"
        )
    plain = cast("Json", json.loads(content))
    updates = plain if by_field and isinstance(plain, dict) else {f"{node_id}.result": plain}
    return success(done).with_updates(context_updates=updates)


def _completed(state: State, what: str, node_id: str, stage_dir: Path) -> Outcome:
    try:
        value = state.result(raise_on_failure=False)
    except Exception as error:  # noqa: BLE001 - reading a result from its storage may raise anything
        return success(
            f"{what} completed; its result cannot be read here ({type(error).__name__}): persist_result=True on the flow and "
            "storage that both sides reach hand it on"
        )
    return outcome_of_value(value, what=what, node_id=node_id, stage_dir=stage_dir)


def _data_of(state: State) -> Any:
    try:
        return state.result(raise_on_failure=False)
    except Exception:  # noqa: BLE001 - the same; the state's message gives the reason then
        return None
