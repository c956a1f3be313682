"""``kilroy stop`` and ``kilroy reconcile`` as their users call them: on a real run, a killed one, one under a worker."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from real_prefect import Prefect, ended, eventually, is_alive, recorded_pids, scheduled_run

KILROY = [sys.executable, "-m", "kilroy_engine.cli.main"]
SLOW = (
    "digraph slow { start [shape=Mdiamond] done [shape=Msquare] "
    'wait [shape=parallelogram, tool_command="echo waiting; sleep 300 & sleep 300"] '
    'start -> wait  wait -> done [condition="outcome=success"] }'
)


def kilroy(prefect: Prefect, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*KILROY, *arguments], env=prefect.environment, capture_output=True, text=True, check=False, timeout=90
    )


@pytest.fixture
def started(prefect: Prefect, tmp_path: Path) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    """``kilroy run`` whose tool is at work, and its run directory."""
    graph, run = tmp_path / "slow.dot", tmp_path / "runs" / "r1"
    graph.write_text(SLOW, encoding="utf-8")
    command = [*KILROY, "run", str(graph), "--no-git", "--logs-root", str(run)]
    with subprocess.Popen(command, env=prefect.environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            eventually(lambda: run.exists() and recorded_pids(run), what="a tool at work")
            yield process, run
        finally:
            process.kill()


def test_stop_cancels_a_run_and_says_so_in_kilroys_words(
    prefect: Prefect, started: tuple[subprocess.Popen[bytes], Path]
) -> None:
    """pid= and stopped=graceful, the terminal line, Cancelled in Prefect, 130 for the run; a second stop has nothing to do."""
    process, run = started
    done = kilroy(prefect, "stop", str(run))
    assert (done.returncode, done.stdout.splitlines()) == (0, [f"pid={process.pid}", "stopped=graceful"]), done.stderr
    assert ended(run)["failure_reason"] == "canceled: by kilroy stop"
    assert process.wait(timeout=30) == 130
    assert prefect.final_state(json.loads((run / "manifest.json").read_text())["flow_run_id"])["type"] == "CANCELLED"
    again = kilroy(prefect, "stop", str(run))
    assert (again.returncode, again.stdout) == (1, "")
    assert "has ended already, with canceled" in again.stderr


def test_a_request_that_another_program_wrote_ends_the_flow_run_as_cancelled(
    prefect: Prefect, started: tuple[subprocess.Popen[bytes], Path]
) -> None:
    """A file with any words is enough: the words stand in the reason, and Prefect shows the run as Cancelled."""
    process, run = started
    asked = {"source": "because the build is frozen", "at": "2026-01-01T00:00:00Z"}
    (run / "cancel_request.tmp").write_text(json.dumps(asked), encoding="utf-8")
    (run / "cancel_request.tmp").rename(run / "cancel_request.json")
    assert process.wait(timeout=60) == 130
    assert ended(run)["failure_reason"] == "canceled: because the build is frozen"
    assert prefect.final_state(json.loads((run / "manifest.json").read_text())["flow_run_id"])["type"] == "CANCELLED"


CANCELED_AT_ONCE = """
import sys
import httpx
import kilroy_engine.orchestration.flows.launch as launching
from kilroy_engine.cli.main import main

run_flow = launching.run_flow

def canceled(flow, *, flow_run, **options):
    address = f"{sys.argv[1]}/flow_runs/{flow_run.id}/set_state"
    httpx.post(address, json={"state": {"type": "CANCELLING"}}).raise_for_status()
    return run_flow(flow, flow_run=flow_run, **options)

launching.run_flow = canceled
sys.exit(main(sys.argv[2:]))
"""
"""The command, whose flow run somebody cancels after it was created and before its body begins."""


def test_a_cancel_before_the_run_begins_leaves_nothing_but_the_exit_code(prefect: Prefect, tmp_path: Path) -> None:
    """Exit code 130 as for any canceled run; Prefect says Cancelled, and there is no run directory."""
    (tmp_path / "slow.dot").write_text(SLOW, encoding="utf-8")
    command = [sys.executable, "-c", CANCELED_AT_ONCE, prefect.api_url, "run", "slow.dot", "--no-git", "--logs-root", "run"]
    done = subprocess.run(
        command, cwd=tmp_path, env=prefect.environment, capture_output=True, text=True, check=False, timeout=90
    )
    assert (done.returncode, done.stdout) == (130, ""), done.stderr
    assert done.stderr.splitlines()[-1] == "kilroy: run canceled: in the Prefect UI or API"
    flow_run_id = next(line for line in done.stderr.splitlines() if line.startswith("  page ")).rsplit("/", 1)[1]
    assert prefect.final_state(flow_run_id)["type"] == "CANCELLED"
    assert not (tmp_path / "run").exists()


def test_a_run_that_does_not_react_is_killed_with_force(
    prefect: Prefect, started: tuple[subprocess.Popen[bytes], Path]
) -> None:
    """Without --force the grace passes and the exit code is 1; with it the process is killed and the run ended from here."""
    process, run = started
    process.send_signal(signal.SIGSTOP)
    asked = kilroy(prefect, "stop", str(run), "--grace", "1s")
    assert (asked.returncode, asked.stdout) == (1, "")
    assert "--force kills its process" in asked.stderr
    forced = kilroy(prefect, "stop", str(run), "--grace", "1s", "--force")
    assert (forced.returncode, forced.stdout.splitlines()) == (0, [f"pid={process.pid}", "stopped=forced"]), forced.stderr
    final = json.loads((run / "final.json").read_text())
    assert (final["status"], final["failure_reason"]) == ("canceled", "canceled: by kilroy stop")
    assert prefect.final_state(final["flow_run_id"])["type"] == "CANCELLED"
    assert not [pid for pid in recorded_pids(run) if is_alive(pid)]


def test_reconcile_says_what_it_would_do_and_then_does_it(
    prefect: Prefect, started: tuple[subprocess.Popen[bytes], Path]
) -> None:
    """A killed run: a dry run changes nothing; then fail, Crashed, task runs too, no process."""
    process, run = started
    process.kill()
    process.wait()
    root = ("--runs-root", str(run.parent), "--json")
    dry = json.loads(kilroy(prefect, "reconcile", "--dry-run", "--grace", "0s", *root).stdout)
    assert [(found["action"], found["done"]) for found in dry if found["logs_root"] == str(run)] == [("end", False)]
    assert not (run / "final.json").exists()
    done = kilroy(prefect, "reconcile", "--grace", "0s", *root)
    found = next(found for found in json.loads(done.stdout) if found["logs_root"] == str(run))
    assert (done.returncode, found["action"], found["done"], found["status"]) == (0, "end", True, "fail"), done.stderr
    assert done.stderr == ""
    final = ended(run)
    assert final["failure_reason"].startswith("crashed: the flow process (pid ")
    assert prefect.final_state(final["flow_run_id"])["type"] == "CRASHED"
    tasks = prefect.task_runs(final["flow_run_id"], count=2)
    assert {task["name"]: task["state_type"] for task in tasks} == {"start": "COMPLETED", "wait": "CRASHED"}
    assert not [pid for pid in recorded_pids(run) if is_alive(pid)]


def test_stop_of_a_run_under_a_worker_goes_through_prefect(worker: Prefect) -> None:
    """The worker ends the process; the reason is that of the command that asked."""
    flow_run_id = worker.start_run("attractor", graph=SLOW, options={"workspace": "plain"})
    run = worker.run_directory(flow_run_id)
    eventually(lambda: recorded_pids(run), what="a tool at work")
    done = kilroy(worker, "stop", str(run))
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "stopped=graceful"), done.stderr
    assert ended(run)["failure_reason"] == "canceled: by kilroy stop"
    assert worker.final_state(flow_run_id)["type"] == "CANCELLED"
    assert not [pid for pid in recorded_pids(run) if is_alive(pid)]
    assert not os.path.exists(f"/proc/{(run / 'run.pid').read_text()}")  # noqa: PTH110 - /proc is Linux's


@pytest.mark.timeout(400)
def test_the_reconcile_deployment_reports_what_it_did(worker: Prefect) -> None:
    """The flow of the schedule ends Completed and its state says how much there was to do."""
    schedules = worker.get("/deployments/name/reconcile/reconcile")["schedules"]
    assert [schedule["schedule"]["interval"] for schedule in schedules] == [60]
    message = scheduled_run(worker, "reconcile/reconcile")["state"]["message"]
    assert re.match(r"\d+ mended, \d+ left alone, 0 failed, in /", message)
