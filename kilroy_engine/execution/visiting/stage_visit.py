"""One visit of a node: its attempts, each from the handler's call to a judged outcome."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable
from contextlib import ExitStack, nullcontext
from dataclasses import replace
from typing import assert_never

from kilroy_engine.errors import RunCanceled, WorkspaceError
from kilroy_engine.events import (
    EscalationModelSwitch,
    Event,
    HumanGateAnswered,
    HumanGateOpened,
    RetryDecision,
    StageAttemptEnd,
    StageAttemptStart,
    StageRetryBlocked,
    StageRetrySleep,
    WarningGiven,
)
from kilroy_engine.execution.lane import Lane
from kilroy_engine.execution.ports import Slots
from kilroy_engine.execution.stall import ProgressClock
from kilroy_engine.execution.visiting.commits import clear_locks, commit_failure, commit_visit, refused
from kilroy_engine.execution.visiting.source_watch import SourceWatch
from kilroy_engine.execution.visiting.spending import AttemptSpending
from kilroy_engine.execution.visiting.steps import ANSWERED, SETTLED, Attempt, passed
from kilroy_engine.graph.node_types import runs_once
from kilroy_engine.handlers.base import Ask, CallPrefect, FanIn, FanOut, StageRequest, StageResult, Supervise
from kilroy_engine.handlers.human import approve
from kilroy_engine.processes.environment import StagePlace, stage_environment
from kilroy_engine.processes.output import OutputSink
from kilroy_engine.rundir.files.atomic import write_text
from kilroy_engine.rundir.stages.children import read_guidance
from kilroy_engine.rundir.stages.stage_files import begin_attempt, begin_visit, write_status
from kilroy_engine.stopping import Cancellation
from kilroy_engine.traversal.escalation import Escalation
from kilroy_engine.traversal.failure import failure_of_exception
from kilroy_engine.traversal.fidelity import Carried, carried_into
from kilroy_engine.traversal.outcome import Outcome
from kilroy_engine.traversal.retry import Again, RetryPolicy, Settled, delay_s, judge, retry_policy
from kilroy_engine.traversal.state import RunState, Visit
from kilroy_engine.workspace.kilroy_folder import KilroyFolder

LONGEST_ASKED_S = 900.0
"""A provider that asks for more time than this before the next attempt does not get it: retries are for what passes."""
FORWARDED_LINES = 1000
"""Lines of one attempt that go to Prefect's log; the rest is in the stage directory. A line costs about 5 ms there."""


class StageVisit:
    """The attempts of one visit, which begins in ``state``."""

    def __init__(self, lane: Lane, visit: Visit, state: RunState) -> None:
        self.lane = lane
        self.visit = visit
        self.node = lane.graph.nodes[visit.node_id]
        single = runs_once(self.node.type)
        self.policy = RetryPolicy() if single else retry_policy(lane.graph, self.node)
        self.state = state
        self.directory = lane.directory.stage(self.node.id)
        self._asked_to_wait_s = 0.0
        self._escalation = Escalation()
        self._session = ""
        self._folder = KilroyFolder(lane.workspace.path, lambda message: lane.emit(WarningGiven(message=message)))

    @property
    def name(self) -> str:
        """The node's id, and which arrival at it this is."""
        restart = [f"restart {self.state.restart_count}"] if self.state.restart_count else []
        again = [f"visit {self.visit.number}"] if self.visit.number > 1 else []
        return f"{self.node.id} ({', '.join([*restart, *again])})" if restart or again else self.node.id

    @property
    def provider(self) -> str:
        """The provider whose models the next attempt uses, a better model counted in; empty for none."""
        return self.lane.handlers.provider_of(self._escalation.applied(self.node))

    @property
    def max_attempts(self) -> int:
        return self.policy.max_attempts

    @property
    def cancellation(self) -> Cancellation:
        return self.lane.cancellation

    @property
    def clock(self) -> ProgressClock:
        return self.lane.clock

    def tell(self, event: Event, /) -> None:
        """Appends an event to the stream of the visit's lane."""
        self.lane.emit(event)

    def begin(self) -> None:
        """Makes the stage directory, keeps an earlier visit's files aside, tells the stage its task in files."""
        begin_visit(self.directory)
        self._folder.begin_stage(self.node, self.state)

    def attempt(self, number: int, log: Callable[[str], None], slots: Slots = nullcontext) -> Again | Settled:
        """Carries out attempt ``number`` (from 1); later ones wait their delay first. ``log`` takes lines of output. ``slots``
        are held while the handler is at work, not while others are on its behalf.

        Raises:
            RunCanceled: A stop was requested while it waited or worked; the stage's files say so.
        """
        if number > 1:
            self._wait(number - 1)
            clear_locks(self.lane, self.node.id)
        with ExitStack() as held:
            held.enter_context(slots())
            return self._attempt(number, log, held)

    def _attempt(self, number: int, log: Callable[[str], None], held: ExitStack) -> Again | Settled:
        begin_attempt(self.directory, number)
        self.lane.emit(StageAttemptStart(node_id=self.node.id, attempt=number, max=self.policy.max_attempts))
        self.lane.log.node_started(self.node.id, label=self.node.label, handler=self.node.type, attempt=number)
        started = time.monotonic()
        source = SourceWatch(self.lane, self.node)
        outcome = source.judged(passed(ANSWERED, self._at(number), self._answer(number, log, held)))
        outcome, verdict = self._judged(number, outcome)
        self._record(number, outcome, verdict, (time.monotonic() - started) * 1000)
        self.lane.cancellation.raise_if_requested()
        return replace(verdict, outcome=self.settled(verdict.outcome)) if isinstance(verdict, Settled) else verdict

    def settled(self, outcome: Outcome) -> Outcome:
        """What the visit comes to with ``outcome``, for the walk. What a failure left is committed as it is."""
        told = passed(SETTLED, self._at(self.policy.max_attempts), outcome)
        if outcome.failed and not outcome.committed:
            commit_failure(self.lane, self.node.id)
        return told

    def _at(self, number: int) -> Attempt:
        return Attempt(self.lane, self.visit, self.node, self.state, self.directory, number)

    def _judged(self, number: int, outcome: Outcome) -> tuple[Outcome, Again | Settled]:
        """The attempt's outcome and the verdict on it. A stage that is to go on as a success has its work committed first:
        one that git refuses has failed, and may be tried again."""
        verdict = judge(self.lane.graph, self.node, outcome, attempt=number)
        if isinstance(verdict, Again) or verdict.outcome.failed or outcome.committed:
            if isinstance(verdict, Again):
                self._asked_to_wait_s = min(outcome.retry_after_s or 0.0, LONGEST_ASKED_S)
                self._escalate(number, verdict.failure_class)
                self._session = outcome.session
            return outcome, verdict
        try:
            commit_visit(self.lane, self.node.id, verdict.outcome.status)
        except WorkspaceError as error:
            outcome = refused(outcome, error)
            return outcome, judge(self.lane.graph, self.node, outcome, attempt=number, accepts_partial=False)
        return outcome, verdict

    def _escalate(self, number: int, failure_class: str) -> None:
        """The next attempt may get a better model, and the stream says so."""
        graph, before = self.lane.graph, self._escalation
        self._escalation = before.after(graph, self.node, failure_class)
        if self._escalation.index == before.index:
            return
        left, next_ = before.applied(self.node), self._escalation.applied(self.node)
        self.lane.emit(
            EscalationModelSwitch(
                node_id=self.node.id,
                attempt=number,
                from_provider=left.text("llm_provider"),
                from_model=left.text("llm_model"),
                to_provider=next_.text("llm_provider"),
                to_model=next_.text("llm_model"),
                escalation_idx=self._escalation.index - 1,
                failure_class=failure_class,
            )
        )

    def _wait(self, failed_attempt: int) -> None:
        delay = max(delay_s(self.policy, self.lane.run_id, self.node.id, failed_attempt), self._asked_to_wait_s)
        self.lane.emit(
            StageRetrySleep(
                node_id=self.node.id,
                attempt=failed_attempt,
                delay_ms=round(delay * 1000),
                retries=failed_attempt,
                max_retry=self.policy.max_attempts - 1,
            )
        )
        with self.lane.clock.expecting_silence():
            self.lane.cancellation.wait(delay)
        self.lane.cancellation.raise_if_requested()

    def _answer(self, number: int, log: Callable[[str], None], held: ExitStack) -> Outcome:
        """The handler's answer, carried out where it is an effect; an exception of the handler's is a failure (Spec 4.12)."""
        try:
            spending = AttemptSpending(self.lane, self.node)
            request = self._request(number, log, spending)
            # A stage with a limit of its own may be silent until then; any other is ended by the stall watchdog.
            with held, self.lane.clock.working(request.timeout_s):
                result = self.lane.handlers.resolve(self.node)(request)
            with self.lane.clock.containing(request.timeout_s):
                return spending.judged(self._carried_out(result, number))
        except RunCanceled:
            raise
        except Exception as error:  # noqa: BLE001 - a handler may raise anything
            return self._outcome_of(error)

    def _carried_out(self, result: StageResult, number: int) -> Outcome:
        match result:
            case Outcome():
                return result
            case Ask():
                return self._approved(result)
            case FanOut() | FanIn() | CallPrefect() | Supervise():
                return self.lane.carry_out(self.lane, self.node, self.state, result, number)
            case _:
                assert_never(result)

    def _approved(self, ask: Ask) -> Outcome:
        node_id, visit = self.node.id, self.visit.number
        choices = tuple(choice.label for choice in ask.choices)
        self.lane.emit(HumanGateOpened(node_id=node_id, visit=visit, question=ask.question, choices=choices))
        first = ask.choices[0].label
        self.lane.emit(HumanGateAnswered(node_id=node_id, visit=visit, choice=first, by="auto-approve", waited_s=0.0))
        return approve(ask)

    def _outcome_of(self, error: Exception) -> Outcome:
        text = f"{error}\n\n{traceback.format_exc()}"
        write_text(self.directory / "panic.txt", text)
        return failure_of_exception(error).with_updates(notes="the handler raised; see panic.txt")

    def _record(self, number: int, outcome: Outcome, verdict: Again | Settled, duration_ms: float) -> None:
        node_id, attempts = self.node.id, self.policy.max_attempts
        write_status(self.directory, verdict.outcome if isinstance(verdict, Settled) else outcome)
        self.lane.emit(
            StageAttemptEnd(
                node_id=node_id,
                attempt=number,
                max=attempts,
                status=outcome.status,
                failure_reason=outcome.failure_reason,
            )
        )
        self.lane.log.node_completed(node_id, status=outcome.status, duration_ms=round(duration_ms), attempt=number)
        if self.lane.cancellation.requested or not verdict.reason:
            return
        again = isinstance(verdict, Again)
        self.lane.emit(
            RetryDecision(node_id=node_id, attempt=number, max_retries=attempts - 1, will_retry=again, reason=verdict.reason)
        )
        if isinstance(verdict, Again):
            details = outcome.details if isinstance(outcome.details, str) else ""
            self._folder.write_feedback(node_id, attempt=number, reason=outcome.failure_reason, details=details)
        elif verdict.blocked:
            self.lane.emit(
                StageRetryBlocked(
                    node_id=node_id,
                    attempt=number,
                    max=attempts,
                    status=outcome.status,
                    failure_reason=outcome.failure_reason,
                    failure_class=verdict.failure_class,
                    max_retry=attempts - 1,
                )
            )

    def _request(self, number: int, log: Callable[[str], None], spending: AttemptSpending) -> StageRequest:
        lane, node, settings = self.lane, self._escalation.applied(self.node), self.lane.settings
        place = StagePlace(lane.run_id, node.id, lane.directory.path, self.directory, lane.workspace.path)
        limits = [limit for limit in (node.timeout_s, settings.stage_timeout_s) if limit]
        return StageRequest(
            graph=lane.graph,
            node=node,
            visit=self.visit.number,
            attempt=number,
            run_id=lane.run_id,
            context=self.state.context,
            stage_dir=self.directory,
            work_dir=lane.workspace.path,
            environment=stage_environment(lane.environment, place, lane.with_secrets(self.state.context)),
            timeout_s=min(limits, default=None),
            settings=settings,
            carried=self._carried(),
            outcomes=self.state.outcomes,
            cancellation=spending.cancellation,
            output=self._sink(log),
            tell=spending.tell,
            cost_left_usd=spending.cost_left_usd,
            beside=self._beside(),
            guidance=read_guidance(lane.base),
        )

    def _beside(self) -> str:
        """What tells this stage from those that work in the same folder at the same time; empty where none do."""
        lane = self.lane
        shares = lane.path and not lane.workspace.path.is_relative_to(lane.directory.path)
        return "/".join((*lane.path, self.node.id)) if shares else ""

    def _carried(self) -> Carried:
        """What the attempt's agent is told of the run. An attempt after one that failed continues the session of that one: the
        totals of the conversation are counted from there."""
        carried = carried_into(self.lane.graph, self.state, self.visit)
        return replace(carried, session=self._session) if carried.session and self._session else carried

    def _sink(self, log: Callable[[str], None]) -> OutputSink:
        forwarded = 0

        def take(stream: str, line: str) -> None:
            nonlocal forwarded
            self.lane.clock.tick()
            text = self.lane.inputs.masked(line)
            self.lane.log.tool_output(self.node.id, stream, text)
            forwarded += 1
            if forwarded <= FORWARDED_LINES:
                log(text)
            elif forwarded == FORWARDED_LINES + 1:
                log(f"(more output in {self.directory / stream}.log)")

        return take
