"""What differs between the supported Prefect versions. ``make versions`` runs this on the oldest and on the newest."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from engine_process import Request, answers
from real_prefect import Prefect, ended, events, eventually, recorded_pids

pytestmark = pytest.mark.versions
HEAD = "start [shape=Mdiamond] done [shape=Msquare] node [shape=parallelogram]"
FLAKY = f"""digraph flaky {{ {HEAD} a [max_retries=2,
  tool_command="if [ -e seen ]; then echo again; else touch seen; exit 1; fi"] start -> a
  a -> done [condition="outcome=success"] }}"""
TOLD = f"""digraph told {{ {HEAD} big [tool_command="cat $FOLDER/told.json > $KILROY_STAGE_LOGS_DIR/status.json"]
  bad [max_retries=1, tool_command="exit 3"] start -> big
  big -> bad [condition="outcome=success"] bad -> done [condition="outcome=fail"] }}"""
LANES = f"""digraph lanes {{ {HEAD} node [tool_command="true"] p [shape=component] j [shape=tripleoctagon]
  start -> p p -> a1 -> a2 -> a3 -> j p -> b1 -> b2 -> b3 -> j j -> done [condition="outcome=success"] }}"""
SLOW = f'digraph slow {{ {HEAD} a [tool_command="sleep 300"] start -> a a -> done [condition="outcome=success"] }}'


def test_a_failed_attempt_is_followed_by_another_one(prefect: Prefect, tmp_path: Path) -> None:
    """A stage that fails once and may be tried three times: two attempts, as two runs of one task run, and success."""
    options = {"logs_root": str(tmp_path / "run"), "workspace": "plain"}
    asked = [Request(name="flaky", graph=FLAKY, options=options)]
    (answer,) = answers(asked, environment=prefect.environment, folder=tmp_path, within_s=120)
    final = ended(tmp_path / "run")
    assert (answer.exit_code, final["status"]) == (0, "success"), final
    attempts = [event["status"] for event in events(tmp_path / "run") if event["event"] == "stage_attempt_end"]
    assert attempts == ["success", "fail", "success", "success"]
    task_runs = prefect.task_runs(final["flow_run_id"], count=3)
    assert {run["name"]: (run["run_count"], run["state_type"]) for run in task_runs} == {
        "start": (1, "COMPLETED"),
        "a": (2, "COMPLETED"),
        "done": (1, "COMPLETED"),
    }


def test_what_a_stage_comes_to_stays_on_this_machine(prefect: Prefect, tmp_path: Path) -> None:
    """A visit's outcome is what its task run returns, also that of a failed one. Prefect neither keeps it nor sends it to the
    server, not even where its settings persist results; the context with the stage's values is on disk."""
    storage = tmp_path / "storage"
    (tmp_path / "told.json").write_text(json.dumps({"status": "success", "context_updates": {"kept": "needle"}}))
    persisting = {"PREFECT_RESULTS_PERSIST_BY_DEFAULT": "true", "PREFECT_LOCAL_STORAGE_PATH": str(storage)}
    asked = [
        Request(
            name="told",
            graph=TOLD.replace("$FOLDER", str(tmp_path)),
            options={"logs_root": str(tmp_path / "run"), "workspace": "plain"},
        )
    ]
    answers(asked, environment={**prefect.environment, **persisting}, folder=tmp_path, within_s=120)
    final = ended(tmp_path / "run")
    assert "needle" in (tmp_path / "run" / "checkpoint.json").read_text()
    assert [path for path in storage.rglob("*") if path.is_file()] == []
    task_runs = prefect.task_runs(final["flow_run_id"], count=4)
    assert {run["name"]: (run["run_count"], run["state_type"]) for run in task_runs} == {
        "start": (1, "COMPLETED"),
        "big": (1, "COMPLETED"),
        "bad": (2, "FAILED"),
        "done": (1, "COMPLETED"),
    }
    of_run = {"any_": [final["flow_run_id"]]}
    logs = eventually(lambda: prefect.post("/logs/filter", logs={"flow_run_id": of_run}), what="log lines")
    of_tasks = {"resource": {"id": [f"prefect.task-run.{run['id']}" for run in task_runs]}}
    told = eventually(lambda: prefect.post("/events/filter", filter=of_tasks, limit=50)["events"], what="events")
    assert "needle" not in json.dumps([task_runs, logs, told])


def test_in_prefects_graph_a_stage_follows_the_one_before_it_alone(prefect: Prefect, tmp_path: Path) -> None:
    """Prefect takes a value that it has seen in what a task returned for a dependency; stages of two branches tell the same
    in the same words."""
    asked = [Request(name="lanes", graph=LANES, options={"logs_root": str(tmp_path / "run"), "workspace": "plain"})]
    answers(asked, environment=prefect.environment, folder=tmp_path, within_s=120)
    task_runs = prefect.task_runs(ended(tmp_path / "run")["flow_run_id"], count=12)
    names = {run["id"]: run["name"] for run in task_runs}
    follows = {run["name"]: [names[before["id"]] for before in run["task_inputs"].get("wait_for", [])] for run in task_runs}
    lanes = {f"{lane}{number}": [f"{lane}{number - 1}"] if number > 1 else [] for lane in "ab" for number in (1, 2, 3)}
    outer = {"start": [], "p": ["start"], "p: a1": [], "p: b1": [], "j": ["p"], "done": ["j"]}
    assert follows == {**outer, **lanes}


def test_the_task_runs_of_a_killed_run_are_ended(prefect: Prefect, tmp_path: Path) -> None:
    """``kilroy reconcile`` finds the task run that Prefect shows at work and ends it with the run."""
    run = tmp_path / "runs" / "killed"
    (tmp_path / "slow.dot").write_text(SLOW, encoding="utf-8")
    kilroy = [sys.executable, "-m", "kilroy_engine.cli.main"]
    command = [*kilroy, "run", "slow.dot", "--no-git", "--logs-root", str(run)]
    with subprocess.Popen(command, cwd=tmp_path, env=prefect.environment, stderr=subprocess.DEVNULL) as process:
        eventually(lambda: run.exists() and recorded_pids(run), what="a tool at work")
        flow_run_id = json.loads((run / "manifest.json").read_text())["flow_run_id"]

        def at_work() -> bool:
            found = prefect.post("/task_runs/filter", flow_runs={"id": {"any_": [flow_run_id]}})
            return any(task_run["state_type"] == "RUNNING" for task_run in found)

        eventually(at_work, what="a task run that Prefect shows at work")
        process.kill()
    reconcile = [*kilroy, "reconcile", "--grace", "0s", "--runs-root", str(run.parent)]
    subprocess.run(reconcile, env=prefect.environment, check=True, timeout=90, stdout=subprocess.DEVNULL)
    assert ended(run)["status"] == "fail"
    states = {task_run["name"]: task_run["state_type"] for task_run in prefect.task_runs(flow_run_id, count=2)}
    assert states == {"start": "COMPLETED", "a": "CRASHED"}
