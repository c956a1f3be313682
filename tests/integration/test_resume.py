"""Runs that go on: *Retry* as the Prefect UI asks for it, a new flow run for an earlier run, and what ends a later start."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest
from real_prefect import Prefect, events, eventually, is_alive, recorded_pids

TERMINAL = {"run_completed", "run_failed"}


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    """A folder outside of the run: ``side`` tells which tools were executed, the other files steer them."""
    folder = tmp_path / "trace"
    folder.mkdir()
    return folder


def pipeline(trace: Path, *, work: str = "test -e $T/fixed") -> str:
    """Three tools in a row; the one in the middle fails until somebody makes the file ``fixed``."""
    return (
        'digraph three { node [shape=parallelogram] start [shape=Mdiamond] done [shape=Msquare] '
        f'first [tool_command="T={trace}; echo first >> $T/side; echo 1 > first.txt"] '
        f'work [tool_command="T={trace}; echo work >> $T/side; cat first.txt; {work}"] '
        f'last [tool_command="T={trace}; echo last >> $T/side"] '
        'start -> first  first -> work [condition="outcome=success"]  work -> last [condition="outcome=success"]  '
        'last -> done [condition="outcome=success"] }'
    )  # fmt: skip


SLOW = "test -e $T/fixed || sleep 300"


def executed(trace: Path) -> list[str]:
    side = trace / "side"
    return side.read_text().split() if side.exists() else []


def ended_start(run: Path, start: int) -> dict[str, Any]:
    """``final.json`` of the start, once its terminal line is the last one; every start before has one of its own."""

    def over() -> bool:
        found = events(run)
        return found[-1]["event"] in TERMINAL and found[-1].get("start") == start

    eventually(over, within_s=120, what=f"the end of start {start}")
    assert [event["start"] for event in events(run) if event["event"] in TERMINAL] == list(range(1, start + 1))
    final = json.loads((run / "final.json").read_bytes())
    assert final["start"] == start
    return final


def retry(prefect: Prefect, flow_run_id: str) -> None:
    """What the Prefect UI sends for *Retry*."""
    state = {"type": "SCHEDULED", "name": "AwaitingRetry", "message": "Retry from the UI"}
    assert prefect.post(f"/flow_runs/{flow_run_id}/set_state", state=state)["status"] == "ACCEPT"


def wait_until_let_go(prefect: Prefect, flow_run_id: str, *, times: int) -> None:
    """Waits until the worker is done with as many processes of the flow run. It reports a crash of its own when what is left of
    a process is gone, and takes back a *Retry* that came before."""
    done = {"event": {"name": ["prefect.worker.executed-flow-run"]}, "related": {"id": [f"prefect.flow-run.{flow_run_id}"]}}
    eventually(
        lambda: len(prefect.post("/events/filter", filter=done)["events"]) >= times, within_s=120, what="the worker letting go"
    )


def starts(run: Path) -> int:
    """How often the run has begun."""
    return sum(event["event"] in {"run_started", "run_resumed"} for event in events(run))


def snapshot(run: Path) -> dict[str, tuple[bytes, int]]:
    return {str(f): (f.read_bytes(), f.stat().st_mtime_ns) for f in run.rglob("*") if f.is_file()}


def resumed(run: Path) -> dict[str, Any]:
    return next(event for event in reversed(events(run)) if event["event"] == "run_resumed")


def test_retry_goes_on_at_the_failed_node_and_does_nothing_after_a_success(
    worker: Prefect, repository: Path, trace: Path
) -> None:
    """The same flow run, a new process: finished stages are not run again, the failed one is, then the rest.

    Once more after the success: Completed with "already succeeded", and not a byte of the run directory changes.
    """
    flow_run_id = worker.start_run("attractor", graph=pipeline(trace), repo=str(repository))
    run = worker.run_directory(flow_run_id)
    first = ended_start(run, 1)
    assert first["status"] == "fail"
    worker.final_state(flow_run_id)

    (trace / "fixed").touch()
    retry(worker, flow_run_id)
    final = ended_start(run, 2)

    assert final["status"] == "success"
    assert final["flow_run_id"] == first["flow_run_id"] == flow_run_id
    assert executed(trace) == ["first", "work", "work", "last"]
    assert (resumed(run)["from_node"], resumed(run)["previous_status"]) == ("work", "fail")
    assert json.loads((run / "final.start-1.json").read_bytes()) == first
    state = message_of(worker, flow_run_id, "exit reached")
    assert (state["type"], state["name"]) == ("COMPLETED", "Completed")
    names = [task["name"] for task in worker.task_runs(flow_run_id, count=6)]
    assert names == ["start", "first", "work", "work (visit 2)", "last", "done"]
    log = ["git", "log", "--reverse", "--format=%s", f"attractor/run/{run.name}"]
    subjects = subprocess.run(log, cwd=repository, capture_output=True, text=True, check=True).stdout.splitlines()[1:]
    stages = [subject.partition(": ")[2] for subject in subjects]
    assert stages == ["start (success)", "first (success)", "work (fail)", "work (success)", "last (success)", "done (success)"]

    before = snapshot(run)
    retry(worker, flow_run_id)
    assert message_of(worker, flow_run_id, "already succeeded")["type"] == "COMPLETED"
    assert snapshot(run) == before
    assert executed(trace) == ["first", "work", "work", "last"]


def message_of(prefect: Prefect, flow_run_id: str, text: str) -> dict[str, Any]:
    """The flow run's state, once its message holds the text."""

    def told() -> dict[str, Any] | None:
        state = prefect.flow_run(flow_run_id)["state"]
        return state if text in (state["message"] or "") else None

    return eventually(told, within_s=120, what=f"a state that says {text!r}")


@pytest.mark.timeout(600)
def test_a_later_start_ends_like_the_first(worker: Prefect, trace: Path) -> None:
    """A UI cancel and a crash of a retried run end that start, once; then a new flow run goes on with the run.

    The run's tools are at work in between: the interrupted stage runs again as a new visit each time.
    """
    graph = pipeline(trace, work=SLOW)
    flow_run_id = worker.start_run("attractor", graph=graph, options={"workspace": "plain"})
    run = worker.run_directory(flow_run_id)
    end_at_work(worker, run, flow_run_id, how="kill", start=1)

    wait_until_let_go(worker, flow_run_id, times=1)
    retry(worker, flow_run_id)
    assert end_at_work(worker, run, flow_run_id, how="cancel", start=2)["status"] == "canceled"
    assert worker.final_state(flow_run_id)["type"] == "CANCELLED"

    wait_until_let_go(worker, flow_run_id, times=2)
    retry(worker, flow_run_id)
    assert end_at_work(worker, run, flow_run_id, how="kill", start=3)["status"] == "fail"
    assert executed(trace) == ["first", "work", "work", "work"]

    (trace / "fixed").touch()
    later = worker.start_run("attractor", graph="", options={"resume_from": str(run)}, labels={"try": "four"})
    final = ended_start(run, 4)

    assert (final["status"], final["flow_run_id"]) == ("success", later)
    assert executed(trace) == ["first", "work", "work", "work", "work", "last"]
    assert worker.run_directory(later) == run
    assert worker.final_state(later)["type"] == "COMPLETED"
    assert worker.flow_run(flow_run_id)["state"]["type"] == "CRASHED"
    manifest = json.loads((run / "manifest.json").read_bytes())
    assert (manifest["flow_run_id"], manifest["labels"]) == (later, {"try": "four"})


def end_at_work(prefect: Prefect, run: Path, flow_run_id: str, *, how: str, start: int) -> dict[str, Any]:
    """Cancels the run, or kills its process, while its tool sleeps; the end of that start."""

    def at_work() -> list[int]:
        return [pid for pid in recorded_pids(run) if is_alive(pid)] if starts(run) == start else []

    pids = eventually(at_work, within_s=120, what=f"a tool of start {start} at work")
    if how == "cancel":
        prefect.post(f"/flow_runs/{flow_run_id}/set_state", state={"type": "CANCELLING"})
    else:
        os.kill(int((run / "run.pid").read_text()), signal.SIGKILL)
    final = ended_start(run, start)
    prefect.final_state(flow_run_id)
    assert not [pid for pid in pids if is_alive(pid)]
    return final
