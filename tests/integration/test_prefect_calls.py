"""Pipelines that call Prefect tasks, flows and deployments: a real server, a real worker, a project of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from real_prefect import Prefect, ended, events, eventually

PROJECT_YAML = """
name: calls-project
deployments:
  - name: calls
    entrypoint: runs.py:attractor
    work_pool: {name: kilroy}
  - name: greet
    entrypoint: calls_work.py:greet
    work_pool: {name: kilroy}
  - name: sleep
    entrypoint: calls_work.py:sleep
    work_pool: {name: kilroy}
"""
WORK = """
import asyncio
import time
from pathlib import Path

from prefect import flow, task


@task
def count(n: int, words: list[str]) -> dict:
    return {"total": n + len(words), "folder": str(Path.cwd())}


@task
async def twice(n: int) -> int:
    await asyncio.sleep(0.01)
    return 2 * n


@flow
async def whole(total: int) -> str:
    return f"twice {total} is {await twice(total)}"


@flow(persist_result=True)
def greet(name: str, times: int = 1) -> str:
    return " ".join([f"hello {name}"] * times)


@flow
def sleep(seconds: float = 300) -> None:
    time.sleep(seconds)


@task
def blocked() -> None:
    Path("blocked").touch()
    time.sleep(60)
"""


def pipeline(*nodes: str, last: str = "outcome=success") -> str:
    """A pipeline of these nodes in a row; the last one leads to the exit on ``last``."""
    ids = [node.split()[0] for node in nodes]
    return (
        f"digraph calls {{ start [shape=Mdiamond] done [shape=Msquare] {' '.join(nodes)} "
        f'{" -> ".join(["start", *ids])}  {ids[-1]} -> done [condition="{last}"] }}'
    )


@pytest.fixture(scope="module")
def project(worker: Prefect, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A deployed project: a folder with a flow file, a module with tasks and flows, and nothing installed."""
    folder = tmp_path_factory.mktemp("project")
    (folder / "prefect.yaml").write_text(PROJECT_YAML)
    (folder / "runs.py").write_text(
        "from kilroy_engine.orchestration.flows.attractor import attractor\n\n__all__ = ['attractor']\n"
    )
    (folder / "calls_work.py").write_text(WORK)
    done = subprocess.run(
        ["prefect", "--no-prompt", "deploy", "--all"],
        cwd=folder, env=worker.environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def start(worker: Prefect, graph: str) -> str:
    return worker.start_run("calls", graph=graph, options={"workspace": "plain"})


def opened(worker: Prefect, flow_run_id: str) -> Path:
    """The run directory; a run that is refused instead says why."""

    def begun() -> dict[str, Any] | None:
        flow_run = worker.flow_run(flow_run_id)
        return flow_run if flow_run["labels"].get("kilroy.run_directory") or flow_run["state"]["type"] == "FAILED" else None

    flow_run = eventually(begun, what="a run that begins")
    assert "kilroy.run_directory" in flow_run["labels"], flow_run["state"]["message"]
    return Path(flow_run["labels"]["kilroy.run_directory"])


def context_of(run: Path) -> dict[str, Any]:
    return json.loads((run / "checkpoint.json").read_text())["context"]


def call_of(run: Path, node: str) -> dict[str, Any]:
    return json.loads((run / node / "prefect_call.json").read_text())


def child_of(prefect: Prefect, run: Path, node: str) -> str:
    """The flow run that a node's call became, once it is at work."""
    path = run / node / "prefect_call.json"
    found = eventually(
        lambda: json.loads(path.read_text()).get("flow_run_id") if path.exists() else None, what="the call's flow run"
    )
    eventually(lambda: prefect.flow_run(found)["state"]["type"] == "RUNNING", what="a child flow run at work")
    return found


def test_a_task_a_flow_and_a_deployment_are_nodes_of_a_run(worker: Prefect, project: Path) -> None:
    """Each is found from the project's folder, gets typed arguments, hands its result on, and is a child in Prefect's graph."""
    graph = pipeline(
        'count [type="prefect.task", ref="calls_work:count", param.n=3, param.words="[\\"a\\", \\"b\\"]"]',
        'whole [type="prefect.flow", ref="calls_work:whole", param.total="context:total"]',
        'greet [type="prefect.flow", ref="greet/greet", param.name="Ada", param.times=2]',
    )
    flow_run_id = start(worker, graph)
    run = opened(worker, flow_run_id)

    assert ended(run, within_s=120)["status"] == "success"
    context = context_of(run)
    assert (context["total"], context["folder"]) == (5, str(project))
    assert context["whole.result"] == "twice 5 is 10"
    assert context["greet.result"] == "hello Ada hello Ada"

    tasks = {task["id"]: task for task in worker.task_runs(flow_run_id, count=7)}
    ids = {task["name"]: task["id"] for task in tasks.values()}
    parents = {key: [parent["id"] for parent in task["task_inputs"].get("__parents__", [])] for key, task in tasks.items()}
    assert parents[call_of(run, "count")["task_run_id"]] == [ids["count"]]
    for node in ("whole", "greet"):
        child = worker.flow_run(call_of(run, node)["flow_run_id"])
        assert child["state"]["type"] == "COMPLETED"
        assert parents[child["parent_task_run_id"]] == [ids[node]]


def test_a_cancel_of_the_run_cancels_the_deployments_run(worker: Prefect, project: Path) -> None:
    """The child is ended by its own worker; the run ends as canceled."""
    flow_run_id = start(worker, pipeline('nap [type="prefect.flow", ref="sleep/sleep"]'))
    run = opened(worker, flow_run_id)
    child = child_of(worker, run, "nap")

    worker.post(f"/flow_runs/{flow_run_id}/set_state", state={"type": "CANCELLING"})

    assert ended(run)["status"] == "canceled"
    assert worker.final_state(flow_run_id)["type"] == "CANCELLED"
    assert worker.final_state(child)["type"] == "CANCELLED"


def test_a_time_limit_cancels_the_deployments_run_and_the_walk_goes_on(worker: Prefect, project: Path) -> None:
    """A stage's limit is a failure of the stage, which an edge may answer."""
    graph = pipeline('nap [type="prefect.flow", ref="sleep/sleep", timeout=5]', last="outcome=fail")
    flow_run_id = start(worker, graph)
    run = opened(worker, flow_run_id)

    assert ended(run)["status"] == "success"
    status = json.loads((run / "nap" / "status.json").read_text())
    assert status["failure_reason"] == "deployment sleep/sleep timed out after 5s"
    assert status["meta"]["failure_class"] == "transient_infra"
    child = worker.flow_run(call_of(run, "nap")["flow_run_id"])
    assert child["state"]["type"] in {"CANCELLING", "CANCELLED"}  # the latter at once where no worker has taken it yet


def test_what_cannot_be_called_is_refused_before_the_run_starts(worker: Prefect, project: Path) -> None:
    """A module that the worker does not have, a deployment that the server does not have: Failed, and no run directory."""
    graph = pipeline(
        'a [type="prefect.task", ref="calls_wrok:count"]', 'b [type="prefect.flow", ref="greet/greeet", param.name=x]'
    )
    flow_run_id = start(worker, graph)
    state = worker.final_state(flow_run_id)

    assert state["type"] == "FAILED"
    assert "there is no module calls_wrok: install it where the run takes place, or put it into the folder" in state["message"]
    assert str(project) in state["message"]
    assert "there is no deployment greet/greeet" in state["message"]
    assert "did you mean 'greet'?" in state["message"]
    assert "kilroy.run_directory" not in worker.flow_run(flow_run_id)["labels"]


def test_a_run_ends_in_time_though_its_call_cannot_be_stopped(worker: Prefect, project: Path) -> None:
    """Ctrl-C while a task is deep in a library: canceled within seconds, the task run Cancelled in Prefect."""
    (project / "block.dot").write_text(pipeline('nap [type="prefect.task", ref="calls_work:blocked"]'))
    root = project / "state"
    command = subprocess.Popen(
        [sys.executable, "-m", "kilroy_engine.cli.main", "run", "block.dot", "--no-git"],
        cwd=project,
        env={**worker.environment, "KILROY_RUNS_ROOT": str(root)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    with command as process:
        try:
            run = eventually(lambda: next(iter(root.glob("*/nap/prefect_call.json")), None), what="the call").parents[1]
            eventually(lambda: "task_run_id" in call_of(run, "nap") or None, what="the task at work")
            os.kill(process.pid, signal.SIGINT)

            assert ended(run, within_s=30)["failure_reason"] == "canceled: by signal SIGINT"
            attempt = next(
                event for event in events(run) if event["event"] == "stage_attempt_end" and event["node_id"] == "nap"
            )
            assert attempt["failure_reason"] == "canceled: by signal SIGINT"
            task_run = call_of(run, "nap")["task_run_id"]
            eventually(lambda: worker.get(f"/task_runs/{task_run}")["state_type"] == "CANCELLED", what="the task run canceled")
            output, _ = process.communicate(timeout=30)
            assert process.returncode == 130, output
        finally:
            process.kill()
