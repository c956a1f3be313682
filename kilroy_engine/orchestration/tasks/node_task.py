"""Runs a visit of a node as a Prefect task run, which shows the visit's state, duration and attempts."""

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
    """What all visits of a run share: ``tags`` of the flow's caller, ``limits`` of the server on tags and providers."""

    tags: frozenset[str]
    limits: TagLimits


def _wants_another_attempt(task: Any, task_run: TaskRun, state: State) -> bool:
    # Prefect up to 3.8.7 passes a state of its own, whose data is the state that the task returned.
    returned = state.data if isinstance(state.data, State) else state
    return returned.name == AGAIN


@task(name="node", persist_result=False, cache_policy=NO_CACHE, retry_condition_fn=_wants_another_attempt)
def run_node(visit: VisitAtWork, around: Around, before: ExitStack) -> State:
    """One attempt at a visit. After the last attempt the state's data holds the visit's outcome.

    Prefect calls the function again for each further attempt. The engine waits the delay between attempts itself, because
    Prefect's own delay is a plain sleep that cannot be canceled. ``before`` is closed when Prefect lets the attempt begin.
    """
    before.close()
    context = TaskRunContext.get()
    assert context is not None
    logger = get_run_logger(context)

    def log(line: str) -> None:
        logger.info("%s", without_escapes(line))

    # Tags set here are shown in Prefect. Prefect has taken slots for the tags that the task run began with, so for none.
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
    """Holds the slots of the limits on the stage. The wait for slots does not count as a stall."""
    wanted = limits_on(visit.node, task_run.tags, visit.provider) if task_run.tags else ()
    names = limits.among(wanted, visit.cancellation) if wanted else ()

    def warn(message: str) -> None:
        visit.tell(WarningGiven(message=f"{visit.node.id} {message}"))

    with ExitStack() as held:
        with visit.clock.expecting_silence() if names else nullcontext():
            held.enter_context(holding_slots(names, Waiter(task_run.id, visit.cancellation, log, warn)))
        yield


def perform(visit: VisitAtWork, after: Iterable[object], around: Around) -> Performed:
    """Carries out the visit as a task run that follows the task runs whose states are ``after``.

    Prefect's run graph draws no arrow for plain calls and a false arrow for equal values. So a visit names the states before
    its own by ``wait_for``. Failure is allowed in these states, because the stage after a failed stage must run.
    """
    node_task = run_node.with_options(
        name=visit.node.id,
        task_run_name=visit.name.replace("{", "").replace("}", ""),
        # One retry more than needed: at the last retry Prefect logs an error with an empty traceback before the state.
        retries=max(1, visit.max_attempts - 1),
    )
    links = [allow_failure(state) for state in after]
    with ExitStack() as before:
        before.enter_context(visit.clock.expecting_silence())  # Prefect's work before the stage is no stall
        state: State = node_task(  # type: ignore[call-overload]
            quote(visit), quote(around), quote(before), return_state=True, wait_for=links
        )
    returned = take_returned(state)
    outcome = returned if isinstance(returned, Outcome) else None
    told = f"the task run ended as {state.name}: {state.message or 'no message'}"
    # Prefect reads the data of the states in wait_for, and raises MissingResult where there is none. The outcome may be large.
    return Performed(outcome, told, link=state.model_copy(update={"data": True}))
