"""A visit as a Prefect task run: its state, duration and attempts are the node's."""

from __future__ import annotations

import re
from typing import Any

from prefect import State, allow_failure, get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import TaskRun
from prefect.context import TaskRunContext
from prefect.utilities.annotations import quote

from kilroy_engine.errors import RunCanceled
from kilroy_engine.graph.model import Node
from kilroy_engine.handlers.base import FanIn, FanOut, Supervise
from kilroy_engine.orchestration.lane import Lane
from kilroy_engine.orchestration.stage import StageVisit
from kilroy_engine.orchestration.states import AGAIN, to_task_state
from kilroy_engine.traversal.outcome import Outcome, failure
from kilroy_engine.traversal.retry import Settled
from kilroy_engine.traversal.state import RunState, Visit

_ANSI = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)")


def _wants_another_attempt(task: Any, task_run: TaskRun, state: State) -> bool:
    return state.name == AGAIN


@task(name="node", persist_result=False, cache_policy=NO_CACHE, retry_condition_fn=_wants_another_attempt)
def run_node(stage: StageVisit) -> State:
    """One attempt at a visit. Prefect calls it again for the next one; the delay between them is ours, because it can be
    canceled and Prefect's own is a plain sleep."""
    context = TaskRunContext.get()
    assert context is not None
    logger = get_run_logger(context)
    try:
        verdict = stage.attempt(context.task_run.run_count, lambda line: logger.info("%s", _ANSI.sub("", line)))
    except RunCanceled as canceled:
        return to_task_state(failure(str(canceled)), canceled=not stage.lane.cancellation.failed)
    if isinstance(verdict, Settled):
        return to_task_state(verdict.outcome)
    return to_task_state(failure(verdict.reason), again=True)


def carry_out(stage: StageVisit, effect: FanOut | FanIn | Supervise, attempt: int) -> Outcome:
    """What a handler asked for, carried out inside the node's task run."""
    # Stages run branches and child pipelines, and those run stages.
    from kilroy_engine.orchestration import branches, fan_in, supervise

    match effect:
        case FanOut():
            # Its stages tell that they are at work; the fan-out itself says nothing.
            return branches.fan_out(stage.lane, stage.node, effect, stage.state, attempt=attempt)
        case FanIn():
            return fan_in.fan_in(stage.lane, stage.node, effect)
        case Supervise():
            return supervise.supervise(stage.lane, stage.node, effect, stage.state, attempt=attempt)


class TaskPerformer:
    """Performs visits as task runs that are linked in the order of the path.

    The link is the previous task run's state, given as ``wait_for``: Prefect's run graph draws no arrow for plain calls and a
    false one for equal values. Failure is allowed in it, or the stage after a failed one would wait for ever.
    """

    def __init__(self, lane: Lane) -> None:
        self._lane = lane
        self._previous: list[State] = []

    def __call__(self, visit: Visit, state: RunState) -> Outcome:
        """Outcome of the visit.

        Raises:
            RunCanceled: A stop was requested.
        """
        self._check_canceled()
        stage = StageVisit(self._lane, visit, state, carry_out)
        stage.begin()
        name = visit.node_id if visit.number == 1 else f"{visit.node_id} (visit {visit.number})"
        task_state = run_node.with_options(
            name=visit.node_id,
            task_run_name=name.replace("{", "").replace("}", ""),
            tags=_tags(stage.node),
            # One retry to spare: at the last retry Prefect logs an error with an empty traceback, before it logs the state.
            retries=max(1, stage.policy.max_attempts - 1),
        )(quote(stage), return_state=True, wait_for=[allow_failure(previous) for previous in self._previous])  # type: ignore[call-overload]
        self._previous = [task_state]
        self._check_canceled()
        if stage.outcome is None:
            return failure(f"the task run ended as {task_state.name}: {task_state.message or 'no message'}")
        return stage.outcome

    def _check_canceled(self) -> None:
        self._lane.cancellation.raise_if_requested()


def _tags(node: Node) -> list[str]:
    """Tags that a team can put Prefect's concurrency limits on. The node's id is the task's name: as a tag it would cost
    one request per node, because Prefect asks the server once per set of tags."""
    model = node.text("llm_model").strip()
    return [f"handler:{node.type}", *([f"model:{model}"] if model else [])]
