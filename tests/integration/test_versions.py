"""What differs between the supported Prefect versions. ``make versions`` runs this on the oldest and on the newest."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import Prefect, ended, events, eventually, recorded_pids
from engine_process import Request, answers

pytestmark = pytest.mark.versions
HEAD = "start [shape=Mdiamond] done [shape=Msquare] node [shape=parallelogram]"
FLAKY = f"""digraph flaky {{ {HEAD} a [max_retries=2,
  tool_command="if [ -e seen ]; then echo again; else touch seen; exit 1; fi"] start -> a
  a -> done [condition="outcome=success"] }}"""
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
