"""One visit of a node: its attempts, each from the handler's call to a judged outcome. Free of Prefect."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, nullcontext
from typing import TypeAlias, assert_never

from kilroy_engine.errors import RunCanceled, WorkspaceError
from kilroy_engine.events import (
    HumanGateAnswered,
    HumanGateOpened,
    LlmUsage,
    OutputContractViolated,
    RetryDecision,
    StageAttemptEnd,
    StageAttemptStart,
    StageRetryBlocked,
    StageRetrySleep,
    StatusIngestionDecision,
    WarningGiven,
)
from kilroy_engine.handlers.base import Ask, CallPrefect, FanIn, FanOut, OutputSink, StageRequest, StageResult, Supervise
from kilroy_engine.handlers.human import approve
from kilroy_engine.orchestration.commits import clear_locks, commit_failure, commit_visit, refused
from kilroy_engine.orchestration.failure_report import report_failure
from kilroy_engine.orchestration.lane import Lane
from kilroy_engine.orchestration.updates import settle_updates
from kilroy_engine.processes.environment import StagePlace, stage_environment
from kilroy_engine.processes.output_contract import missing_outputs
from kilroy_engine.processes.stage_status import with_stage_status
from kilroy_engine.rundir.files.atomic import write_text
from kilroy_engine.rundir.stages.children import read_guidance
from kilroy_engine.rundir.stages.stage import begin_attempt, begin_visit, status_problem, write_status
from kilroy_engine.traversal.failure import FailureClass, failure_of_exception
from kilroy_engine.traversal.fanin import CHECKPOINT_SHA_KEY
from kilroy_engine.traversal.fidelity import carried_into
from kilroy_engine.traversal.outcome import Outcome, Status
from kilroy_engine.traversal.retry import SINGLE_EXECUTION_TYPES, Again, RetryPolicy, Settled, delay_s, judge, retry_policy
from kilroy_engine.traversal.state import RunState, Visit
from kilroy_engine.workspace.kilroy_folder import KilroyFolder

FORWARDED_LINES = 1000
"""Lines of one attempt that go to Prefect's log; the rest is in the stage directory. A line costs about 5 ms there."""


CarryOut: TypeAlias = Callable[["StageVisit", FanOut | FanIn | CallPrefect | Supervise, int], Outcome]
"""Carries out what a handler asked for, in attempt number N of the visit."""

Slots: TypeAlias = Callable[[], AbstractContextManager[object]]
"""What a handler's work has to have while it lasts. Entering it waits until it is to be had."""


class StageVisit:
    """The attempts of one visit. ``outcome`` is what the visit came to, once an attempt is settled."""

    def __init__(self, lane: Lane, visit: Visit, state: RunState, carry_out: CarryOut) -> None:
        self.lane = lane
        self._carry_out = carry_out
        self.visit = visit
        self.node = lane.graph.nodes[visit.node_id]
        single = self.node.type in SINGLE_EXECUTION_TYPES
        self.policy = RetryPolicy() if single else retry_policy(lane.graph, self.node)
        self.outcome: Outcome | None = None
        self.state = state
        self.directory = lane.directory.stage(self.node.id)
        self._folder = KilroyFolder(lane.workspace.path, lambda message: lane.emit(WarningGiven(message=message)))

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
        outcome = self._canceled_or(self._checked(number, self._answer(number, log, held)))
        outcome, verdict = self._judged(number, outcome)
        self._record(number, outcome, verdict, (time.monotonic() - started) * 1000)
        self.lane.cancellation.raise_if_requested()
        if isinstance(verdict, Settled):
            settled = verdict.outcome
            self.outcome = self.failed_with(settled) if settled.failed else settled
        return verdict

    def failed_with(self, outcome: Outcome) -> Outcome:
        """Writes down and commits what a failed visit came to; the outcome that later stages see."""
        told = report_failure(self.lane, self.node, outcome)
        if CHECKPOINT_SHA_KEY not in outcome.meta:
            commit_failure(self.lane, self.node.id)
        return told

    def _judged(self, number: int, outcome: Outcome) -> tuple[Outcome, Again | Settled]:
        """The attempt's outcome and the verdict on it. A stage that is to go on as a success has its work committed first:
        one that git refuses has failed, and may be tried again."""
        verdict = judge(self.lane.graph, self.node, outcome, attempt=number)
        if isinstance(verdict, Again) or verdict.outcome.failed or CHECKPOINT_SHA_KEY in outcome.meta:
            return outcome, verdict
        try:
            commit_visit(self.lane, self.node.id, verdict.outcome.status)
        except WorkspaceError as error:
            outcome = refused(outcome, error)
            return outcome, judge(self.lane.graph, self.node, outcome, attempt=number, accepts_partial=False)
        return outcome, verdict

    def _wait(self, failed_attempt: int) -> None:
        delay = delay_s(self.policy, self.lane.run_id, self.node.id, failed_attempt)
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
        """The handler's outcome, or the one that a ``status.json`` in the stage directory puts in its place (Kilroy)."""
        try:
            request = self._request(number, log)
            # A stage with a limit of its own may be silent until then; any other is ended by the stall watchdog.
            with held, self.lane.clock.working(request.timeout_s):
                result = self.lane.handlers.resolve(self.node)(request)
            with self.lane.clock.containing(request.timeout_s):
                outcome = self._settled(result, number)
        except RunCanceled:
            raise
        except Exception as error:  # noqa: BLE001 - a handler may raise anything; the engine makes an outcome of it (Spec 4.12)
            outcome = self._outcome_of(error)
        if problem := status_problem(self.directory):
            self.lane.emit(WarningGiven(message=f"{self.node.id}: its status.json is ignored: {problem}"))
        outcome = self._reported(with_stage_status(outcome, self.directory))
        return settle_updates(self.lane, self.visit, self.state.context, outcome)

    def _settled(self, result: StageResult, number: int) -> Outcome:
        match result:
            case Outcome():
                return result
            case Ask():
                return self._approved(result)
            case FanOut() | FanIn() | CallPrefect() | Supervise():
                return self._carry_out(self, result, number)
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

    def _reported(self, outcome: Outcome) -> Outcome:
        """Emits what an agent's handler left in ``meta`` for the event stream, and takes it out."""
        meta = dict(outcome.meta)
        ingestion, usage, lost = (meta.pop(key, None) for key in ("status_ingestion", "usage", "session_lost"))
        if isinstance(ingestion, dict):
            self.lane.emit(StatusIngestionDecision(node_id=self.node.id, **ingestion))  # type: ignore[arg-type]
        for call in usage if isinstance(usage, list) else []:
            if isinstance(call, dict):
                self.lane.emit(LlmUsage(node_id=self.node.id, **call))  # type: ignore[arg-type]
        if lost:
            self.lane.emit(WarningGiven(message=f"{self.node.id}: began a new session: {lost}"))
        return outcome.with_updates(meta=meta)

    def _checked(self, number: int, outcome: Outcome) -> Outcome:
        """``outcome``, or a failure when a success lacks a file that the node promises (Kilroy: output contract)."""
        if not outcome.succeeded or self.lane.settings.simulate:
            return outcome
        missing = missing_outputs(self.node, self.lane.workspace.path)
        if not missing:
            return outcome
        reason = f"output contract: missing {', '.join(missing)}"
        self.lane.emit(OutputContractViolated(node_id=self.node.id, attempt=number, failure_reason=reason))
        # The class is not left to the words of the reason, which are names of files. Wishes of a success go with it.
        return outcome.with_updates(
            status=Status.FAIL,
            failure_reason=reason,
            failure_class=FailureClass.DETERMINISTIC,
            preferred_label="",
            suggested_next_ids=(),
            details=f"Not found in {self.lane.workspace.path}, where the node promises to leave it: {', '.join(missing)}",
        )

    def _canceled_or(self, outcome: Outcome) -> Outcome:
        if not self.lane.cancellation.requested:
            return outcome
        reason = self.lane.cancellation.reason
        return outcome.with_updates(status=Status.FAIL, failure_reason=reason, failure_class=FailureClass.CANCELED)

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

    def _request(self, number: int, log: Callable[[str], None]) -> StageRequest:
        lane, node, settings = self.lane, self.node, self.lane.settings
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
            simulate=settings.simulate,
            carried=carried_into(lane.graph, self.state, self.visit),
            outcomes=self.state.outcomes,
            cancellation=lane.cancellation,
            output=self._sink(log),
            guidance=read_guidance(lane.base),
        )

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
