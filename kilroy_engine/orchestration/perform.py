"""A visit as a Prefect task run: its state, duration and attempts are the node's."""

from __future__ import annotations

import re
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager, nullcontext
from typing import Any

from prefect import State, allow_failure, get_run_logger, tags, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import TaskRun
from prefect.context import TaskRunContext
from prefect.utilities.annotations import quote

from kilroy_engine.errors import RunCanceled
from kilroy_engine.events import WarningGiven
from kilroy_engine.handlers.base import CallPrefect, FanIn, FanOut, Supervise
from kilroy_engine.orchestration.lane import Lane
from kilroy_engine.orchestration.loop_files import with_loop_files
from kilroy_engine.orchestration.prefect_call import CallPlace
from kilroy_engine.orchestration.prefect_call import carry_out as make_call
from kilroy_engine.orchestration.slots import Waiter, holding_slots
from kilroy_engine.orchestration.stage import StageVisit
from kilroy_engine.orchestration.states import AGAIN, to_task_state
from kilroy_engine.orchestration.tags import stage_tags
from kilroy_engine.traversal.outcome import Outcome, failure
from kilroy_engine.traversal.retry import Settled
from kilroy_engine.traversal.state import RunState, Visit

_ANSI = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)")


def _wants_another_attempt(task: Any, task_run: TaskRun, state: State) -> bool:
    # Prefect up to 3.8.7 hands over a state of its own, whose data is the one that the task returned.
    returned = state.data if isinstance(state.data, State) else state
    return returned.name == AGAIN


@task(name="node", persist_result=False, cache_policy=NO_CACHE, retry_condition_fn=_wants_another_attempt)
def run_node(stage: StageVisit, before: ExitStack) -> State:
    """One attempt at a visit. Prefect calls it again for the next one; the delay between them is ours, because it can be
    canceled and Prefect's own is a plain sleep. ``before`` is closed as soon as Prefect lets the stage begin."""
    before.close()
    context = TaskRunContext.get()
    assert context is not None
    logger = get_run_logger(context)

    def log(line: str) -> None:
        logger.info("%s", _ANSI.sub("", line))

    # From now on they are shown. Prefect takes slots for the tags that a task run begins with, and has looked already.
    context.task_run.tags = sorted(stage_tags(stage.node, stage.lane.tags))
    try:
        verdict = stage.attempt(context.task_run.run_count, log, lambda: _slots(stage, context.task_run, log))
    except RunCanceled as canceled:
        return to_task_state(failure(str(canceled)), canceled=not stage.lane.cancellation.failed)
    if isinstance(verdict, Settled):
        return to_task_state(verdict.outcome)
    return to_task_state(failure(verdict.reason), again=True)


@contextmanager
def _slots(stage: StageVisit, task_run: TaskRun, log: Callable[[str], None]) -> Generator[None]:
    """The slots that a stage has to hold. Waiting for them is no stall."""
    lane, node_id = stage.lane, stage.node.id
    names = lane.limits.on(task_run.tags, lane.cancellation) if task_run.tags else ()

    def warn(message: str) -> None:
        lane.emit(WarningGiven(message=f"{node_id} {message}"))

    with ExitStack() as held:
        with lane.clock.expecting_silence() if names else nullcontext():
            held.enter_context(holding_slots(names, Waiter(task_run.id, lane.cancellation, log, warn)))
        yield


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
            with tags(*stage.lane.tags):  # the callee is as much the caller's as it would be without a pipeline
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
            # One retry to spare: at the last retry Prefect logs an error with an empty traceback, before it logs the state.
            retries=max(1, stage.policy.max_attempts - 1),
        )
        links = [allow_failure(previous) for previous in self._previous]
        with ExitStack() as before:
            before.enter_context(self._lane.clock.expecting_silence())  # what Prefect does first is no stage's work
            task_state = node_task(quote(stage), quote(before), return_state=True, wait_for=links)  # type: ignore[call-overload]
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
