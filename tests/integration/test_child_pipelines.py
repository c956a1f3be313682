"""Child pipelines on a real server: two runs in one process, one end for each, whatever happens to the process."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from real_prefect import Prefect, ended, events, eventually, is_alive

CHILD = (
    "digraph child { start [shape=Mdiamond] done [shape=Msquare] node [shape=parallelogram] "
    'one [tool_command="echo one >> TRACE/side; echo 1 > one.txt"] '
    'two [tool_command="echo two >> TRACE/side; test -e TRACE/go || sleep 300 & wait $!"] '
    'start -> one  one -> two [condition="outcome=success"]  two -> done [condition="outcome=success"] }'
)
PARENT = (
    "digraph parent { start [shape=Mdiamond] done [shape=Msquare] "
    'boss [shape=house, stack.child_dotfile="child.dot", BOSS] '
    'last [shape=parallelogram, tool_command="echo last >> TRACE/side; cat one.txt"] '
    'start -> boss  boss -> last [condition="outcome=success"]  last -> done [condition="outcome=success"] }'
)


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    """A folder outside of the run: ``side`` tells which tools were executed; with ``go`` in it none of them waits."""
    folder = tmp_path / "trace"
    folder.mkdir()
    return folder


@pytest.fixture
def pipeline(repository: Path, trace: Path) -> Path:
    """The parent's file in the repository, its child beside it."""
    return write_pipelines(repository, trace)


def write_pipelines(folder: Path, trace: Path, boss: str = "manager.poll_interval=300ms") -> Path:
    (folder / "child.dot").write_text(CHILD.replace("TRACE", str(trace)), encoding="utf-8")
    parent = folder / "parent.dot"
    parent.write_text(PARENT.replace("TRACE", str(trace)).replace("BOSS", boss), encoding="utf-8")
    return parent


def start(prefect: Prefect, *arguments: str, folder: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "kilroy_engine.cli.main", *arguments]
    return subprocess.Popen(
        command, env=prefect.environment, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def finished(process: subprocess.Popen[str]) -> tuple[int, str]:
    output, errors = process.communicate(timeout=120)
    return process.returncode, output + errors


def executed(trace: Path) -> list[str]:
    side = trace / "side"
    return side.read_text().split() if side.exists() else []


def at_work(child: Path) -> list[int]:
    """Process ids of the child's tools, once the second one is at work."""
    eventually(lambda: list(child.glob("two/process-*.json")), what="the child's second tool")
    pids = [json.loads(path.read_text())["pid"] for path in child.glob("*/process-*.json")]
    return [pid for pid in pids if is_alive(pid)]


def status(directory: Path, node_id: str) -> dict[str, Any]:
    return json.loads((directory / node_id / "status.json").read_bytes())


def state_type(prefect: Prefect, final: dict[str, Any]) -> str:
    return prefect.final_state(final["flow_run_id"])["type"]


def test_a_child_pipeline_is_a_subflow_with_a_directory_and_an_end_of_its_own(
    prefect: Prefect, pipeline: Path, trace: Path, tmp_path: Path
) -> None:
    """The child works in the run's worktree; every stage has a commit; the facts are in the context; its own end, before the
    run's; Prefect shows it below the run; an automation is told of one run only."""
    (trace / "go").touch()
    run = tmp_path / "run"

    code, output = finished(start(prefect, "run", str(pipeline), "--logs-root", str(run), folder=pipeline.parent))

    assert code == 0, output
    final, child = ended(run), ended(run / "boss" / "child")
    assert (final["status"], child["status"]) == ("success", "success")
    assert executed(trace) == ["one", "two", "last"]
    assert child["timestamp"] < final["timestamp"]
    assert child["run_id"] == final["run_id"]
    assert status(run, "boss")["context_updates"]["stack.child.outcome"] == "success"
    assert status(run, "boss")["context_updates"]["stack.child.status"] == "completed"
    cycles = [event for event in events(run) if event["event"] == "manager_loop_cycle"]
    assert [event["cycle"] for event in cycles] == list(range(1, len(cycles) + 1))
    assert {(event["node_id"], event["max_cycles"]) for event in cycles} == {("boss", 1000)}

    log = ["git", "log", "--reverse", "--format=%s", f"attractor/run/{final['run_id']}"]
    subjects = subprocess.run(log, cwd=pipeline.parent, capture_output=True, text=True, check=True).stdout.splitlines()[1:]
    stages = [subject.partition(": ")[2].partition(" ")[0] for subject in subjects]
    assert stages == ["start", "start", "one", "two", "done", "boss", "last", "done"]

    flow_run = prefect.flow_run(child["flow_run_id"])
    tracking = prefect.get(f"/task_runs/{flow_run['parent_task_run_id']}")
    assert tracking["flow_run_id"] == final["flow_run_id"]
    assert (flow_run["state"]["type"], tracking["state"]["type"]) == ("COMPLETED", "COMPLETED")
    assert [task["name"] for task in prefect.task_runs(child["flow_run_id"], count=4)] == ["start", "one", "two", "done"]
    told = eventually(lambda: ended_events(prefect, final["run_id"]), what="the event of the end")
    assert sorted(told) == ["kilroy.run.completed", "kilroy.run.started"]


def ended_events(prefect: Prefect, run_id: str) -> list[str]:
    """The run's own events that Prefect has, once one of an end is there: it takes them in with a delay."""
    wanted = {"event": {"prefix": ["kilroy.run."]}, "resource": {"id": [f"kilroy.run.{run_id}"]}}
    names = [event["event"] for event in prefect.post("/events/filter", filter=wanted)["events"]]
    return names if "kilroy.run.completed" in names else []


def test_a_manager_that_has_seen_enough_ends_its_child(prefect: Prefect, trace: Path, tmp_path: Path) -> None:
    """Its processes are gone, its end says by whom it was canceled, and Prefect shows it so."""
    folder = tmp_path / "pipelines"
    folder.mkdir()
    boss = 'manager.poll_interval=300ms, manager.stop_condition="stack.child.current_node=two"'
    pipeline, run = write_pipelines(folder, trace, boss), tmp_path / "run"

    finished(start(prefect, "run", str(pipeline), "--no-git", "--logs-root", str(run), folder=folder))

    found = status(run, "boss")
    child = ended(run / "boss" / "child")
    assert (found["status"], found.get("failure_reason", "")) == ("success", "")
    assert (child["status"], child["failure_reason"]) == ("canceled", "canceled: by its manager")
    assert found["context_updates"]["stack.child.status"] == "canceled"
    assert state_type(prefect, child) == "CANCELLED"
    pids = [json.loads(path.read_text())["pid"] for path in run.glob("boss/child/*/process-*.json")]
    assert pids
    assert not [pid for pid in pids if is_alive(pid)]


def test_a_killed_run_goes_on_inside_its_child(prefect: Prefect, pipeline: Path, trace: Path, tmp_path: Path) -> None:
    """SIGKILL while the child is at work, then a resume: both get their end, finished stages of the child are not run again,
    and its work is still in the worktree."""
    run = tmp_path / "run"
    child = run / "boss" / "child"
    process = start(prefect, "run", str(pipeline), "--logs-root", str(run), folder=pipeline.parent)
    pids = at_work(child)
    os.kill(process.pid, signal.SIGKILL)
    finished(process)
    first = json.loads((child / "run.lock.json").read_bytes())["flow_run_id"]
    (trace / "go").touch()

    code, output = finished(start(prefect, "resume", str(run), folder=pipeline.parent))

    assert code == 0, output
    assert executed(trace) == ["one", "two", "two", "last"]
    assert not [pid for pid in pids if is_alive(pid)]
    assert (run / "last" / "stdout.log").read_text() == "1\n"
    ends = [event for event in events(child) if event["event"] in {"run_failed", "run_completed"}]
    assert [(event["start"], event["status"]) for event in ends] == [(1, "fail"), (2, "success")]
    resumed = next(event for event in events(child) if event["event"] == "run_resumed")
    assert (resumed["from_node"], resumed["previous_status"]) == ("two", "fail")
    final = json.loads((child / "final.json").read_bytes())
    assert final["start"] == 2
    assert state_type(prefect, final) == "COMPLETED"
    assert prefect.flow_run(first)["state"]["type"] == "CRASHED"


INNER = (
    "digraph inner { start [shape=Mdiamond] done [shape=Msquare] fan [shape=component] join [shape=tripleoctagon] "
    "think [prompt=Think] node [shape=parallelogram] "
    'slow [tool_command="sleep 3; echo slow >> TRACE/side"] '
    'a [tool_command="echo a > a.txt"] b [tool_command="echo b > b.txt"] '
    'check [tool_command="echo check >> TRACE/side; test -e a.txt; test -e TRACE/fixed"] '
    "start -> slow -> think -> fan  fan -> a -> join  fan -> b -> join  join -> check  "
    'check -> done [condition="outcome=success"] }'
)
OUTER = (
    "digraph outer { start [shape=Mdiamond] done [shape=Msquare] middle [shape=folder, dot_file=middle.dot] "
    'start -> middle  middle -> done [condition="outcome=success"] }'
)
MIDDLE = (
    "digraph middle { start [shape=Mdiamond] done [shape=Msquare] "
    'boss [shape=house, stack.child_dotfile=inner.dot, prompt="Keep it small.", '
    "manager.poll_interval=200ms, manager.actions=steer] "
    'start -> boss  boss -> done [condition="outcome=success"] }'
)


def test_a_run_that_failed_deep_inside_goes_on_there(prefect: Prefect, repository: Path, trace: Path, tmp_path: Path) -> None:
    """A child in a child, with branches of its own and a manager that steers: after a resume only the stage that failed runs
    again, and a child cannot be resumed without the run around it."""
    for name, text in (("outer", OUTER), ("middle", MIDDLE), ("inner", INNER)):
        (repository / f"{name}.dot").write_text(text.replace("TRACE", str(trace)), encoding="utf-8")
    run = tmp_path / "run"
    inner = run / "middle" / "child" / "boss" / "child"

    code, output = finished(
        start(prefect, "run", "outer.dot", "--agent", "simulate", "--logs-root", str(run), folder=repository)
    )

    assert code == 1
    assert ended(run)["failure_reason"].count("child pipeline failed: ") == 2
    assert (ended(inner)["status"], executed(trace)) == ("fail", ["slow", "check"])
    steered = [event for event in events(run / "middle" / "child") if event["event"] == "manager_loop_steered"]
    assert {event["path"] for event in steered} == {str(inner / "steer.md")}
    assert "GUIDANCE" in (inner / "think" / "prompt.md").read_text()
    code, output = finished(start(prefect, "resume", str(inner), folder=repository))
    assert (code, "is the child pipeline of node boss" in output) == (1, True)

    (trace / "fixed").touch()
    code, output = finished(start(prefect, "resume", str(run), folder=repository))

    assert code == 0, output
    assert executed(trace) == ["slow", "check", "check"]
    for directory in (run, run / "middle" / "child", inner):
        final = json.loads((directory / "final.json").read_bytes())
        assert (final["status"], final["start"]) == ("success", 2)
        assert state_type(prefect, final) == "COMPLETED"


def test_a_cancel_in_prefect_ends_run_and_child(worker: Prefect, pipeline: Path, trace: Path) -> None:
    """Under a worker: both are canceled, on disk and in Prefect, and no process is left."""
    flow_run_id = worker.start_run("attractor", graph=str(pipeline), repo=str(pipeline.parent))
    run = worker.run_directory(flow_run_id)
    child = run / "boss" / "child"
    pids = at_work(child)
    assert pids

    worker.post(f"/flow_runs/{flow_run_id}/set_state", state={"type": "CANCELLING"})

    final, childs = ended(run), ended(child)
    assert (final["status"], childs["status"]) == ("canceled", "canceled")
    assert worker.final_state(flow_run_id)["type"] == "CANCELLED"
    assert state_type(worker, childs) == "CANCELLED"
    assert not [pid for pid in pids if is_alive(pid)]
    assert executed(trace) == ["one", "two"]


def test_a_cancel_of_the_child_alone_fails_its_node(prefect: Prefect, pipeline: Path, tmp_path: Path) -> None:
    """Canceled on its own page: the child is canceled, the run goes on with a failed node."""
    run = tmp_path / "run"
    child = run / "boss" / "child"
    process = start(prefect, "run", str(pipeline), "--logs-root", str(run), folder=pipeline.parent)
    at_work(child)
    flow_run_id = json.loads((child / "run.lock.json").read_bytes())["flow_run_id"]

    prefect.post(f"/flow_runs/{flow_run_id}/set_state", state={"type": "CANCELLING"})

    code, _ = finished(process)
    reason = "child pipeline failed: canceled: in the Prefect UI or API"
    assert code == 1
    assert ended(run)["failure_reason"] == f"stage failed with no outgoing fail edge: {reason} (at node boss)"
    assert state_type(prefect, ended(child)) == "CANCELLED"
