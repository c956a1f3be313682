"""Runs a child pipeline as a subflow. Its stages are task runs of the subflow's flow run, whose state hooks write its end."""

# No `from __future__ import annotations` here: Prefect reads the signature of the flow.
import contextvars
from collections.abc import Iterable
from typing import Any

from prefect import State, flow, tags
from prefect.context import FlowRunContext
from prefect.runtime import flow_run as current
from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings
from prefect.states import Failed

from kilroy_engine.errors import KilroyError
from kilroy_engine.execution.ports import ChildAtWork
from kilroy_engine.orchestration.ending.hooks import HOOKS
from kilroy_engine.orchestration.locate import identity_of
from kilroy_engine.orchestration.mark import mark
from kilroy_engine.orchestration.states import to_flow_state
from kilroy_engine.orchestration.tasks.tags import tags_set_aside
from kilroy_engine.settings.options import Options

_THIS: contextvars.ContextVar[ChildAtWork] = contextvars.ContextVar("kilroy_child")


def run_child(child: ChildAtWork, around: Iterable[str]) -> str:
    """Runs the child pipeline as a subflow with the tags ``around``. Returns the message of the subflow's final state."""
    _THIS.set(child)  # each child runs in a thread and context of its own
    # The heartbeat of the outer flow run is enough, and the end of a heartbeat's thread costs a second.
    with temporary_settings(updates={PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}), tags(*around):
        state: State = child_pipeline(
            graph=str(child.file), inputs=dict(child.inputs), options=child.options, return_state=True
        )
    return state.message or f"its flow run ended as {state.name}"


def _flow_run_name() -> str:
    """Name of the child's flow run: the node, the pipeline's file, and the last six characters of the flow run's id."""
    child = _THIS.get()
    return f"{child.node_id}-{child.file.stem}-{str(current.id)[-6:]}"


@flow(name="child pipeline", flow_run_name=_flow_run_name, persist_result=False, **HOOKS)
def child_pipeline(graph: str, inputs: dict[str, str], options: Options) -> Any:
    """A pipeline that a node of another one runs. It cannot be run by itself.

    Args:
        graph: Path of its DOT file.
        inputs: Inputs of the pipeline around it.
        options: Where its directory is; a hook in another process finds it by that.
    """
    child, context = _THIS.get(), FlowRunContext.get()
    assert context is not None
    assert context.flow_run is not None
    mark(context.flow_run)
    identity = identity_of(context.flow_run)
    try:
        with tags_set_aside():
            conclusion = child.conduct(identity)
    except KilroyError as refusal:
        return Failed(message=str(refusal))
    # A stop of the outer run reaches the child in this process only: Prefect does not know that this flow run is canceled.
    return to_flow_state(conclusion, tell_canceling=True)
