"""A visit as a Prefect task run: its state, duration and attempts are the node's."""

from __future__ import annotations

import re
from contextlib import ExitStack
from typing import Any

from prefect import State, allow_failure, get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import TaskRun
from prefect.context import TaskRunContext
from prefect.utilities.annotations import quote

from kilroy_engine.errors import RunCanceled
from kilroy_engine.graph.model import Node
from kilroy_engine.handlers.base import CallPrefect, FanIn, FanOut, Supervise
from kilroy_engine.orchestration.lane import Lane
from kilroy_engine.orchestration.loop_files import with_loop_files
from kilroy_engine.orchestration.prefect_call import CallPlace
from kilroy_engine.orchestration.prefect_call import carry_out as make_call
from kilroy_engine.orchestration.stage import StageVisit
from kilroy_engine.orchestration.states import AGAIN, to_task_state
from kilroy_engine.traversal.outcome import Outcome, failure
from kilroy_engine.traversal.retry import Settled
from kilroy_engine.traversal.state import RunState, Visit

_ANSI = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)")


def _wants_another_attempt(task: Any, task_run: TaskRun, state: State) -> bool:
    return state.name == AGAIN


@task(name="node", persist_result=False, cache_policy=NO_CACHE, retry_condition_fn=_wants_another_attempt)
def run_node(stage: StageVisit, in_queue: ExitStack) -> State:
    """One attempt at a visit. Prefect calls it again for the next one; the delay between them is ours, because it can be
    canceled and Prefect's own is a plain sleep. ``in_queue`` is closed as soon as Prefect lets the stage begin."""
    in_queue.close()
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


def carry_out(stage: StageVisit, effect: FanOut | FanIn | CallPrefect | Supervise, attempt: int) -> Outcome:
    """What a handler asked for, carried out inside the node's task run."""
    # Stages run branches and child pipelines, and those run stages.
    from kilroy_engine.orchestration import branches, fan_in, supervise

    match effect:
        case FanOut():
            # Its stages tell that they are at work; the fan-out itself says nothing.
            return branches.fan_out(stage.lane, stage.node, effect, stage.state, attempt=attempt)
        case FanIn():
            return fan_in.fan_in(stage.lane, stage.node, effect)
        case CallPrefect():
            place = CallPlace(stage.node.id, stage.directory, stage.lane.cancellation, alive=stage.lane.clock.tick)
            return make_call(effect, place)
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

    def work_on(self, lane: Lane) -> None:
        """The walk goes on in another lane; the path of task runs is the same one."""
        self._lane = lane

    def __call__(self, visit: Visit, state: RunState) -> Outcome:
        """Outcome of the visit.

        Raises:
            RunCanceled: A stop was requested.
        """
        self._check_canceled()
        stage = StageVisit(self._lane, visit, state, carry_out)
        stage.begin()
        name = _run_name(visit, state)
        node_task = run_node.with_options(
            name=visit.node_id,
            task_run_name=name.replace("{", "").replace("}", ""),
            tags=_tags(stage.node),
            # One retry to spare: at the last retry Prefect logs an error with an empty traceback, before it logs the state.
            retries=max(1, stage.policy.max_attempts - 1),
        )
        links = [allow_failure(previous) for previous in self._previous]
        with ExitStack() as in_queue:
            # Prefect asks the server for slots of the tags' concurrency limits first, and waits for them as long as it takes.
            in_queue.enter_context(self._lane.clock.expecting_silence())
            task_state = node_task(quote(stage), quote(in_queue), return_state=True, wait_for=links)  # type: ignore[call-overload]
        self._previous = [task_state]
        self._check_canceled()
        if stage.outcome is None:
            reason = f"the task run ended as {task_state.name}: {task_state.message or 'no message'}"
            return stage.failed_with(failure(reason))
        simulate, work_dir = self._lane.settings.simulate, self._lane.workspace.path
        return with_loop_files(self._lane.graph, stage.node, stage.outcome, work_dir, simulate=simulate)

    def _check_canceled(self) -> None:
        self._lane.cancellation.raise_if_requested()


def _run_name(visit: Visit, state: RunState) -> str:
    """The node's id, and which arrival at it this is."""
    restart = [f"restart {state.restart_count}"] if state.restart_count else []
    again = [f"visit {visit.number}"] if visit.number > 1 else []
    return f"{visit.node_id} ({', '.join([*restart, *again])})" if restart or again else visit.node_id


def _tags(node: Node) -> list[str]:
    """Tags that a team can put Prefect's concurrency limits on. The node's id is the task's name: as a tag it would cost
    one request per node, because Prefect remembers for 5 s that a set of tags has no limit."""
    model = node.text("llm_model").strip()
    return [f"handler:{node.type}", *([f"model:{model}"] if model else [])]
