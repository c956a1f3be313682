"""Runs that are stopped while a tool is at work: what asks decides how the run ends, and nothing of it lives on."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable
from pathlib import Path
from uuid import uuid4

import psutil
import pytest
from in_process import InProcess, opened
from whole_runs import SLEEPS, Place, Ran

from kilroy_engine.errors import StopKind
from kilroy_engine.execution.ports import Identity, Performed, VisitAtWork
from kilroy_engine.execution.preparing.preparation import RunParameters
from kilroy_engine.execution.watch import SUPERVISOR_PATIENCE_S, Watcher
from kilroy_engine.rundir.ending.cancel import request_cancel
from kilroy_engine.rundir.ending.finalize import end_run
from kilroy_engine.rundir.files.records import CancelRequest, Conclusion
from kilroy_engine.rundir.ownership.ownership import current_owner
from kilroy_engine.settings.options import Options

WORKS = f'a [tool_command="{SLEEPS}"] b [tool_command="true"] start -> a -> b -> done'


def processes_of(ran: Ran) -> list[int]:
    """Process ids that the run's stages recorded and that live."""
    pids = [json.loads(path.read_text())["pid"] for path in ran.run.path.rglob("process-*.json")]
    assert pids
    return [pid for pid in pids if psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE]


def require_stopped(ran: Ran, end: tuple[str, str], kind: StopKind) -> None:
    """The stage that was at work is the last, its processes are gone, the kind is on record, and there is one end."""
    assert ran.end == end
    assert ran.completed == ("start",)
    assert processes_of(ran) == []
    conclusion = Conclusion.find(ran.run)
    assert conclusion is not None
    assert conclusion.stop is kind
    assert [event["reason"] for event in ran.events("run_completed", "run_failed")] == [end[1]]


def test_a_person_stops_it_by_a_request_in_its_directory(place: Place) -> None:
    """What ``kilroy stop`` writes. The event comes before the end."""
    place.meanwhile(place.says("a"), lambda: request_cancel(place.run, StopKind.PERSON, "by kilroy stop"))
    ran = place.runs(WORKS)

    require_stopped(ran, ("canceled", "canceled: by kilroy stop"), StopKind.PERSON)
    assert [event["source"] for event in ran.events("cancel_requested")] == ["by kilroy stop"]


def test_another_program_stops_it_in_its_own_words(place: Place) -> None:
    """A ``cancel_request.json`` with a kind that nobody here knows counts as a person's."""
    told = {"source": "run deadline of the lab", "kind": "night shift", "at": "2026-01-01T00:00:00Z", "start": 1}
    place.meanwhile(place.says("a"), lambda: place.run.cancel_request.write_text(json.dumps(told), encoding="utf-8"))

    require_stopped(place.runs(WORKS), ("canceled", "canceled: run deadline of the lab"), StopKind.PERSON)


def test_a_cancel_in_prefect_is_noticed_by_the_run_itself(place: Place) -> None:
    """Nobody tells a flow that was called directly."""
    prefect = InProcess()
    place.meanwhile(place.says("a"), prefect.canceled.set)

    require_stopped(
        place.runs(WORKS, orchestrator=prefect), ("canceled", "canceled: in the Prefect UI or API"), StopKind.PREFECT
    )


def test_its_deadline_cancels_it(place: Place) -> None:
    """``run_timeout``, counted from the start of the run."""
    ran = place.runs(WORKS, run_timeout="500ms")

    require_stopped(ran, ("canceled", "canceled: run deadline of 0.5s"), StopKind.DEADLINE)


def test_a_stall_fails_it(place: Place) -> None:
    """``stall_timeout`` without an event or a line of output: the run has failed, it is not canceled."""
    ran = place.runs(WORKS, stall_timeout="600ms")

    require_stopped(ran, ("fail", "stall watchdog timeout after 600ms with no progress"), StopKind.STALL)
    (told,) = ran.events("stall_watchdog_timeout")
    assert told["stall_timeout_ms"] == 600
    assert told["idle_ms"] >= 600


def test_lines_of_output_keep_a_stall_away(place: Place) -> None:
    """A tool that says something now and then works longer than the limit."""
    ran = place.runs(
        'a [tool_command="for i in 1 2 3 4 5 6; do echo $i; sleep 0.2; done"] start -> a -> done', stall_timeout="800ms"
    )

    assert ran.end == ("success", "")


def test_a_stage_with_a_limit_of_its_own_may_be_silent_until_then(place: Place) -> None:
    """Its own limit fails the stage, and the walk goes on."""
    ran = place.runs(
        'a [tool_command="sleep 300", timeout=900ms] start -> a  a -> done [condition="outcome=fail"]', stall_timeout="300ms"
    )

    assert ran.end == ("success", "")


def test_the_delay_before_an_attempt_is_no_stall(place: Place) -> None:
    """Longer than the limit, and the engine's own."""
    flaky = (
        'a [tool_command="test -e seen || { touch seen; exit 1; }", max_retries=1, "retry.backoff.initial_delay_ms"=900, '
        '"retry.backoff.jitter"=false] start -> a  a -> done [condition="outcome=success"]'
    )
    ran = place.runs(flaky, stall_timeout="400ms")

    assert ran.end == ("success", "")
    (slept,) = ran.events("stage_retry_sleep")
    assert slept["delay_ms"] == 900


def test_a_request_that_came_before_ends_the_wait_for_the_next_attempt(place: Place) -> None:
    """The delay between attempts is a wait like any other."""
    waits = 'a [tool_command="echo at work; exit 1", max_retries=1, retry.backoff.initial_delay_ms=60000] start -> a -> done'
    place.meanwhile(place.says("a"), lambda: request_cancel(place.run, StopKind.PERSON, "by hand"))
    ran = place.runs(waits)

    assert ran.end == ("canceled", "canceled: by hand")


def test_the_request_to_stop_an_earlier_start_does_not_stop_the_next(place: Place) -> None:
    """A resume goes on, although the file is still there."""
    place.meanwhile(place.says("a"), lambda: request_cancel(place.run, StopKind.PERSON, "by hand"))
    place.runs(f'a [tool_command="test -e ../../go || {{ {SLEEPS}; }}"] start -> a -> done')
    (place.folder / "go").touch()
    ran = place.resumes()

    assert (ran.final.status, ran.final.start) == ("success", 2)


def test_a_signal_leaves_its_reason_for_whoever_ends_the_run(place: Place) -> None:
    """The signal's exception passes through the walk; the process may be gone before a hook runs."""

    class Signaled(InProcess):
        def perform(self, visit: VisitAtWork, after: Iterable[object]) -> Performed:
            if visit.name == "a":  # as the flow's handler of signals does
                visit.cancellation.request(StopKind.SIGNAL, "SIGTERM")
                raise KeyboardInterrupt
            return super().perform(visit, after)

    with pytest.raises(KeyboardInterrupt):
        place.runs(WORKS, orchestrator=Signaled())
    request, owner = CancelRequest.find(place.run), current_owner(place.run)
    assert request is not None
    assert owner is not None
    final = end_run(place.run, owner)

    assert (request.kind, request.source) == (StopKind.SIGNAL, "SIGTERM")
    assert (final.status, final.failure_reason) == ("canceled", "canceled: SIGTERM")


def test_an_exception_of_the_orchestrators_own_is_the_runs_reason(place: Place) -> None:
    """In the orchestrator's words where it has some, with the way to go on."""

    class Away(InProcess):
        def perform(self, visit: VisitAtWork, after: Iterable[object]) -> Performed:
            if visit.name == "a":
                raise ConnectionError("refused\nby peer")
            return super().perform(visit, after)

        def explain(self, error: BaseException) -> str:
            return "the server is away" if str(error).startswith("refused") else ""

    with pytest.raises(ConnectionError):
        place.runs(WORKS, orchestrator=Away(), run_id="r1")
    conclusion = Conclusion.find(place.run)

    assert conclusion is not None
    assert (conclusion.status, conclusion.reason) == (
        "fail",
        "the server is away; `kilroy resume r1` goes on with the run",
    )


def test_a_visit_that_the_orchestrator_ended_otherwise_has_failed(place: Place) -> None:
    """As when Prefect crashes a task run: what is told is the stage's failure, with a dossier like any other."""

    class Breaks(InProcess):
        def perform(self, visit: VisitAtWork, after: Iterable[object]) -> Performed:
            if visit.name == "a":
                return Performed(None, "the task run ended as Crashed: out of memory", link=None)
            return super().perform(visit, after)

    ran = place.runs('a [tool_command="true"] start -> a  a -> done [condition="outcome=fail"]', orchestrator=Breaks())

    assert ran.end == ("success", "")
    assert ran.outcomes["a"].failure_reason == "the task run ended as Crashed: out of memory"
    assert [event["failed_node_id"] for event in ran.events("failure_dossier_updated")] == ["a"]


def test_a_supervised_run_leaves_a_cancel_to_its_supervisor_for_a_while(place: Place) -> None:
    """The worker has sent its signal by then; one that was killed never does, and the run heeds the cancel itself."""

    class Supervised(InProcess):
        def identity(self) -> Identity:
            return Identity(uuid4(), "supervised", deployment_id=uuid4())

    prefect = Supervised()
    options = Options(logs_root=str(place.run.path), workspace="plain")
    found = opened(RunParameters(str(place.write("pipeline.dot", WORKS)), options=options), prefect, base=place.folder)
    try:
        prefect.canceled.set()
        watcher = Watcher(found.run, found.lane.settings)
        watcher.look(100.0)
        assert not found.run.cancellation.requested
        watcher.look(100.0 + SUPERVISOR_PATIENCE_S)
        assert found.run.cancellation.stop is not None
        assert found.run.cancellation.stop.kind is StopKind.PREFECT
    finally:
        found.run.close()


def test_many_requests_at_once_are_one_stop(place: Place) -> None:
    """The first one stands: the event is told once, and the end names its source."""
    place.meanwhile(place.says("a"), lambda: _ask_at_once(place))
    ran = place.runs(WORKS)

    (told,) = ran.events("cancel_requested")
    assert ran.final.failure_reason == f"canceled: {told['source']}"


def _ask_at_once(place: Place) -> None:
    asking = [
        threading.Thread(target=request_cancel, args=(place.run, StopKind.PERSON, f"by person {number}")) for number in range(8)
    ]
    for thread in asking:
        thread.start()
    for thread in asking:
        thread.join()


def test_nothing_of_the_stopped_stage_is_left_in_the_work_folder_of_a_git_run(git_place: Place) -> None:
    """What it had begun is committed nowhere; a resume begins the stage anew at the commit before."""
    half = f'a [tool_command="test ! -e half || exit 7; touch half; test -e {{go}} || {{{{ {SLEEPS}; }}}}"] start -> a -> done'
    statements = half.format(go=Path(git_place.folder) / "go")
    git_place.meanwhile(git_place.says("a"), lambda: request_cancel(git_place.run, StopKind.PERSON, "by hand"))
    assert git_place.runs(statements, run_id="r1").final.status == "canceled"
    (git_place.folder / "go").touch()

    assert git_place.resumes().end == ("success", "")
