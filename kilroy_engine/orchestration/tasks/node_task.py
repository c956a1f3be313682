"""A visit as a Prefect task run: its state, duration and attempts are the node's."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

from prefect import State, allow_failure, get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import TaskRun
from prefect.context import TaskRunContext
from prefect.utilities.annotations import quote

from kilroy_engine.errors import RunCanceled
from kilroy_engine.events import WarningGiven
from kilroy_engine.execution.ports import Performed, VisitAtWork
from kilroy_engine.orchestration.states import AGAIN, take_returned, to_task_state
from kilroy_engine.orchestration.tasks.slots import Waiter, holding_slots
from kilroy_engine.orchestration.tasks.tag_limits import TagLimits
from kilroy_engine.orchestration.tasks.tags import limits_on, stage_tags
from kilroy_engine.processes.output import without_escapes
from kilroy_engine.traversal.outcome import Outcome, failure
from kilroy_engine.traversal.retry import Settled


@dataclass(frozen=True, slots=True)
class Around:
    """What surrounds a visit: ``tags`` of whoever called the flow, ``limits`` that the server has on tags and providers."""

    tags: frozenset[str]
    limits: TagLimits


def _wants_another_attempt(task: Any, task_run: TaskRun, state: State) -> bool:
    # Prefect up to 3.8.7 hands over a state of its own, whose data is the one that the task returned.
    returned = state.data if isinstance(state.data, State) else state
    return returned.name == AGAIN


@task(name="node", persist_result=False, cache_policy=NO_CACHE, retry_condition_fn=_wants_another_attempt)
def run_node(visit: VisitAtWork, around: Around, before: ExitStack) -> State:
    """One attempt at a visit; the state's data holds the visit's outcome, once an attempt was the last one.

    Prefect calls it again for the next attempt. The delay between them is ours, because it can be canceled and Prefect's own
    is a plain sleep. ``before`` is closed as soon as Prefect lets the stage begin.
    """
    before.close()
    context = TaskRunContext.get()
    assert context is not None
    logger = get_run_logger(context)

    def log(line: str) -> None:
        logger.info("%s", without_escapes(line))

    # From now on they are shown. Prefect takes slots for the tags that a task run begins with, and has looked already.
    context.task_run.tags = sorted(stage_tags(visit.node, around.tags))
    try:
        verdict = visit.attempt(context.task_run.run_count, log, lambda: _slots(visit, around.limits, context.task_run, log))
    except RunCanceled as canceled:
        return to_task_state(failure(str(canceled)), canceled=not visit.cancellation.failed)
    if isinstance(verdict, Settled):
        return to_task_state(verdict.outcome, returned=verdict.outcome)
    return to_task_state(failure(verdict.reason), again=True)


@contextmanager
def _slots(visit: VisitAtWork, limits: TagLimits, task_run: TaskRun, log: Callable[[str], None]) -> Generator[None]:
    """The slots that a stage has to hold. Waiting for them is no stall."""
    wanted = limits_on(visit.node, task_run.tags, visit.provider) if task_run.tags else ()
    names = limits.among(wanted, visit.cancellation) if wanted else ()

    def warn(message: str) -> None:
        visit.tell(WarningGiven(message=f"{visit.node.id} {message}"))

    with ExitStack() as held:
        with visit.clock.expecting_silence() if names else nullcontext():
            held.enter_context(holding_slots(names, Waiter(task_run.id, visit.cancellation, log, warn)))
        yield


def perform(visit: VisitAtWork, after: Iterable[object], around: Around) -> Performed:
    """Carries out the visit as a task run that waits for those whose states are ``after``.

    Prefect's run graph draws no arrow for plain calls and a false one for equal values, so a visit names the state before it
    by ``wait_for``. Failure is allowed in it, or the stage after a failed one would wait for ever.
    """
    node_task = run_node.with_options(
        name=visit.node.id,
        task_run_name=visit.name.replace("{", "").replace("}", ""),
        # One retry to spare: at the last retry Prefect logs an error with an empty traceback, before it logs the state.
        retries=max(1, visit.max_attempts - 1),
    )
    links = [allow_failure(state) for state in after]
    with ExitStack() as before:
        before.enter_context(visit.clock.expecting_silence())  # what Prefect does first is no stage's work
        state: State = node_task(  # type: ignore[call-overload]
            quote(visit), quote(around), quote(before), return_state=True, wait_for=links
        )
    returned = take_returned(state)
    outcome = returned if isinstance(returned, Outcome) else None
    told = f"the task run ended as {state.name}: {state.message or 'no message'}"
    # Prefect asks what a task waits for for its data, and raises MissingResult without. The outcome may be large.
    return Performed(outcome, told, link=state.model_copy(update={"data": True}))
