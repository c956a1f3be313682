"""Where branches run is a setting: the run directory is the same."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from conftest import Prefect, events
from engine_process import Request, answers

BRANCHES = 16
GRAPH = (
    "digraph wide { node [shape=parallelogram] start [shape=Mdiamond] exit [shape=Msquare] "
    "p [shape=component, max_parallel=16] j [shape=tripleoctagon] start -> p "
    'j -> exit [condition="outcome=success"] '
    + " ".join(f'b{n:02} [tool_command="echo $PPID > engine.pid; echo {n}"] p -> b{n:02} -> j' for n in range(BRANCHES))
    + " }"
)


def test_a_dask_cluster_leaves_the_same_run_directory_as_threads_do(prefect: Prefect, tmp_path: Path) -> None:
    """16 branches in threads, and in the two worker processes of a real Dask cluster: same files, events and results."""
    done = {}
    for runner in ("threads", "dask:2"):
        folder = tmp_path / runner.partition(":")[0]
        options = {"logs_root": str(folder), "workspace": "plain", "task_runner": runner, "run_id": "same"}
        requests = [Request(name=runner, graph=GRAPH, options=options)]
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
