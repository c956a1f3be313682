"""Where branches run is a setting: the run directory is the same."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from engine_process import Request, answers
from real_prefect import Prefect, ended, events, eventually, is_alive

BRANCHES = 16
GRAPH = (
    "digraph wide { node [shape=parallelogram] start [shape=Mdiamond] exit [shape=Msquare] "
    "p [shape=component, max_parallel=16] j [shape=tripleoctagon] start -> p "
    'j -> exit [condition="outcome=success"] '
    "q [shape=component] r [shape=tripleoctagon] child [shape=folder, dot_file=CHILD] "
    'c1 [tool_command="true"] c2 [tool_command="true"] p -> q q -> c1 -> r q -> c2 -> r r -> j p -> child -> j '
    + " ".join(
        f'b{n:02} [tool_command="echo $PPID > engine.pid; echo {n}; exit {n % 3 // 2}"] p -> b{n:02} -> j'
        for n in range(BRANCHES)
    )
    + " }"
)


def test_a_dask_cluster_leaves_the_same_run_directory_as_threads_do(prefect: Prefect, tmp_path: Path) -> None:
    """16 branches, a third of which fails, one more with branches of its own and one that runs a child pipeline, in threads
    and in two worker processes of a real Dask cluster: the same files, events and results."""
    (tmp_path / "child.dot").write_text(CHILD)
    graph = GRAPH.replace("CHILD", json.dumps(str(tmp_path / "child.dot")))
    done = {}
    for runner in ("threads", "dask:2"):
        folder = tmp_path / runner.partition(":")[0]
        options = {"logs_root": str(folder), "workspace": "plain", "task_runner": runner, "run_id": "same"}
        requests = [Request(name=runner, graph=graph, options=options)]
        (answer,) = answers(requests, environment=prefect.environment, folder=tmp_path, within_s=240)
        assert answer.exit_code == 0, answer
        done[folder.name] = folder
    threads, dask = done["threads"], done["dask"]
    assert len(engines(threads)) == 1
    assert len(engines(dask)) == 2
    assert engines(dask) & engines(threads) == set()
    assert shape(threads) == shape(dask)
    assert told(threads) == told(dask)
    assert results(threads) == results(dask)


CHILD = (
    'digraph child { start [shape=Mdiamond] exit [shape=Msquare] k [shape=parallelogram, tool_command="echo child"] '
    'start -> k k -> exit [condition="outcome=success"] }'
)
SLOW = (
    "digraph slow { node [shape=parallelogram] start [shape=Mdiamond] exit [shape=Msquare] p [shape=component] "
    'j [shape=tripleoctagon] a [tool_command="echo $PPID > engine.pid; sleep 300"] b [tool_command="sleep 300 & sleep 300"] '
    'start -> p p -> a -> j p -> b -> j j -> exit [condition="outcome=success"] }'
)


@pytest.mark.parametrize("signals", [(signal.SIGTERM,), (signal.SIGINT, signal.SIGINT)], ids=["in order", "at once"])
def test_a_run_on_dask_that_is_stopped_leaves_no_process(
    prefect: Prefect, tmp_path: Path, signals: tuple[signal.Signals, ...]
) -> None:
    """Neither a stop in order nor a second Ctrl-C leaves a worker process, or a tool of a branch that worked there."""
    (tmp_path / "slow.dot").write_text(SLOW, encoding="utf-8")
    run = tmp_path / "run"
    command = [sys.executable, "-m", "kilroy_engine.cli.main", "run", "slow.dot", "--no-git", "--logs-root", str(run)]
    with subprocess.Popen(
        [*command, "--task-runner", "dask:1"], cwd=tmp_path, env=prefect.environment, stderr=subprocess.DEVNULL
    ) as process:
        try:
            eventually(lambda: len(at_work(run)) == 2 and engines(run), what="two tools at work")
            pids = {*at_work(run), *(int(pid) for pid in engines(run))}
            for number in signals:
                process.send_signal(number)
                time.sleep(0.2)  # two signals of one kind that come at once are one
            process.wait(timeout=60)
        finally:
            process.kill()
    assert ended(run)["status"] == "canceled"
    eventually(lambda: not any(is_alive(pid) for pid in pids), within_s=30, what="the end of all processes")


def at_work(run: Path) -> list[int]:
    """Process ids of the tools that the branches started."""
    return [json.loads(path.read_text())["pid"] for path in run.glob("parallel/p/pass1/*/*/process-*.json")]


def engines(run: Path) -> set[str]:
    """Processes that started the branches' tools."""
    return {path.read_text() for path in run.glob("parallel/p/pass1/*/worktree/engine.pid")}


def shape(run: Path) -> set[str]:
    """Names of all files, process ids left out."""
    return {
        path.relative_to(run).as_posix() for path in run.rglob("*") if path.is_file() and not path.name.startswith("process-")
    }


def told(run: Path) -> list[str]:
    """The events of the run's stream without ids and times, in an order that does not depend on who was first."""
    kept = [{k: v for k, v in event.items() if k not in ("id", "ts", "flow_run_id")} for event in events(run)]
    return sorted(
        json.dumps(event, sort_keys=True).replace(str(run), "") for event in kept if event["event"] != "branch_heartbeat"
    )


def results(run: Path) -> list[dict[str, Any]]:
    listed = json.loads((run / "p" / "parallel_results.json").read_text().replace(str(run), ""))
    return [{key: value for key, value in result.items() if key != "duration_ms"} for result in listed]
