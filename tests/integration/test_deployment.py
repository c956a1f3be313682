"""Pipelines as a deployment: a real server, a real worker, flow runs created through the API."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
from pathlib import Path

import pytest
from real_prefect import ROOT, Prefect, ended, events, eventually, is_alive, recorded_pids, scheduled_run

SLOW = (
    "digraph slow { start [shape=Mdiamond] done [shape=Msquare] "
    'wait [shape=parallelogram, tool_command="echo waiting; sleep 300 & sleep 300"] '
    'start -> wait  wait -> done [condition="outcome=success"] }'
)
SAY = SLOW.replace("echo waiting; sleep 300 & sleep 300", "echo first line; echo second line >&2")
PLAIN = {"workspace": "plain"}


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A git repository that holds the example project."""
    project = tmp_path_factory.mktemp("example") / "textstats"
    shutil.copytree(ROOT / "examples" / "textstats", project)
    identity = ("-c", "user.name=Test", "-c", "user.email=test@localhost")
    for arguments in (("init", "--quiet"), ("add", "--all"), ("commit", "--quiet", "--message=one")):
        subprocess.run(["git", *identity, *arguments], cwd=project, check=True)
    return project


@pytest.fixture(scope="module")
def flow_runs(worker: Prefect, example: Path) -> dict[str, str]:
    """A flow run for each test that needs one of its own, by what happens to it: most of its time a process imports Prefect,
    and two cores do that for several at once."""
    build = {"graph": "flows/pipelines/build-test.dot", "repo": str(example), "labels": {"team": "blue"}}
    return {
        "shown": worker.start_run("build-test", **build),
        "printing": worker.start_run("attractor", graph=SAY, options=PLAIN),
        "canceled": worker.start_run("attractor", graph=SLOW, options=PLAIN),
        "killed": worker.start_run("attractor", graph=SLOW, options=PLAIN),
        "late": worker.start_run("attractor", graph=SLOW, options={**PLAIN, "run_timeout": "1s"}),
        "refused": worker.start_run("attractor", graph="digraph g { a -> }", options=PLAIN),
    }


def started(prefect: Prefect, flow_run_id: str) -> Path:
    """The run directory of a run whose first tool is at work."""
    run = prefect.run_directory(flow_run_id)
    eventually(lambda: recorded_pids(run), what="a tool at work")
    return run


def test_a_deployed_pipeline_shows_each_visit_as_a_task_run_with_its_attempts(
    worker: Prefect, flow_runs: dict[str, str], example: Path
) -> None:
    """One task run per node visit, in the order of the path; attempts are runs of the same task run; the summary is there."""
    flow_run_id = flow_runs["shown"]
    run = worker.run_directory(flow_run_id)

    final = ended(run)
    state = worker.final_state(flow_run_id)

    assert final["status"] == "success"
    assert (state["type"], state["name"]) == ("COMPLETED", "Completed")
    visits = [
        ("start", "Completed", 1),
        ("warm_up", "Completed", 2),
        ("build", "Completed", 1),
        ("test", "Failed", 1),
        ("passed", "Completed", 1),
        ("fix", "Completed", 1),
        ("test (visit 2)", "Completed", 1),
        ("passed (visit 2)", "Completed", 1),
        ("package", "Completed", 1),
        ("done", "Completed", 1),
    ]
    task_runs = worker.task_runs(flow_run_id, count=len(visits))
    assert [(task["name"], task["state_name"], task["run_count"]) for task in task_runs] == visits
    links = [[parent["id"] for parent in task["task_inputs"].get("wait_for", [])] for task in task_runs]
    assert links == [[], *([task["id"]] for task in task_runs[:-1])]

    artifacts = eventually(
        lambda: worker.post("/artifacts/filter", artifacts={"flow_run_id": {"any_": [flow_run_id]}}), what="the summary"
    )
    assert [artifact["type"] for artifact in artifacts] == ["markdown"]
    assert "## Path" in artifacts[0]["data"]
    assert "| test | 1 | fail | 1 |" in artifacts[0]["data"]
    assert "| warm_up | 1 | success | 2 |" in artifacts[0]["data"]

    assert json.loads((run / "manifest.json").read_text())["labels"] == {"team": "blue"}
    assert worker.flow_run(flow_run_id)["name"].startswith("build_test-")
    commits = subprocess.run(
        ["git", "log", "--format=%s", f"attractor/run/{run.name}"], cwd=example, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    assert len(commits) == len(visits) + 1
    assert commits[0] == f"attractor({run.name}): done (success)"


def test_stage_output_reaches_prefects_log(worker: Prefect, flow_runs: dict[str, str]) -> None:
    """What a tool prints is in the log of its task run, line by line."""
    flow_run_id = flow_runs["printing"]
    worker.final_state(flow_run_id)

    def logged() -> bool:
        logs = worker.post("/logs/filter", logs={"flow_run_id": {"any_": [flow_run_id]}}, limit=200)
        return {"first line", "second line"} <= {log["message"] for log in logs}

    eventually(logged, within_s=30, what="the tool's output in the log")


def test_a_cancel_ends_the_run_as_canceled(worker: Prefect, flow_runs: dict[str, str]) -> None:
    """A cancel by API: run_failed/canceled with who did it, Prefect's state Cancelled, no child process alive."""
    flow_run_id = flow_runs["canceled"]
    run = started(worker, flow_run_id)

    worker.post(f"/flow_runs/{flow_run_id}/set_state", state={"type": "CANCELLING"})

    final = ended(run)
    assert (final["status"], final["failure_reason"]) == ("canceled", "canceled: in the Prefect UI or API")
    assert worker.final_state(flow_run_id)["type"] == "CANCELLED"
    assert not [pid for pid in recorded_pids(run) if is_alive(pid)]


def test_a_killed_flow_process_ends_the_run_as_failed(worker: Prefect, flow_runs: dict[str, str]) -> None:
    """SIGKILL of the flow process: fail with a reason that begins with crashed:, Prefect's state Crashed, no child alive."""
    flow_run_id = flow_runs["killed"]
    run = started(worker, flow_run_id)

    os.kill(int((run / "run.pid").read_text()), signal.SIGKILL)

    final = ended(run)
    assert final["status"] == "fail"
    assert final["failure_reason"].startswith("crashed:")
    assert worker.final_state(flow_run_id)["type"] == "CRASHED"
    assert not [pid for pid in recorded_pids(run) if is_alive(pid)]


def test_a_run_past_its_deadline_is_canceled(worker: Prefect, flow_runs: dict[str, str]) -> None:
    """run_timeout: canceled with the deadline in the reason, Prefect's state Failed under the name TimedOut."""
    flow_run_id = flow_runs["late"]
    run = worker.run_directory(flow_run_id)

    final = ended(run)
    state = worker.final_state(flow_run_id)

    assert (final["status"], final["failure_reason"]) == ("canceled", "canceled: run deadline of 1s")
    assert (state["type"], state["name"]) == ("FAILED", "TimedOut")
    assert not [pid for pid in recorded_pids(run) if is_alive(pid)]


def test_a_refused_run_is_failed_with_the_message_and_has_no_directory(worker: Prefect, flow_runs: dict[str, str]) -> None:
    """A pipeline that does not parse: the flow run's state says what, where and how to mend it; nothing is on disk."""
    flow_run_id = flow_runs["refused"]

    state = worker.final_state(flow_run_id)

    assert state["type"] == "FAILED"
    assert "1:18" in state["message"]
    assert "kilroy.run_directory" not in worker.flow_run(flow_run_id)["labels"]


@pytest.mark.timeout(900)
def test_eight_runs_at_once_over_one_repository_do_not_mix(worker: Prefect, repository: Path) -> None:
    """Eight runs on one worker and one repository: each in its own worktree and branch, with its own commits and input.

    Sixteen processes import Prefect at once, which takes two cores half a minute and a busy machine several.
    """
    graph = (
        'digraph g { graph [inputs="who"] start [shape=Mdiamond] done [shape=Msquare] '
        'write [shape=parallelogram, tool_command="echo $KILROY_INPUT_WHO >> who.txt; sleep 0.5"] '
        'start -> write  write -> done [condition="outcome=success"] }'
    )
    flow_run_ids = {
        f"run-{number}": worker.start_run("attractor", graph=graph, repo=str(repository), inputs={"who": f"run-{number}"})
        for number in range(8)
    }

    for who, flow_run_id in flow_run_ids.items():
        run = worker.run_directory(flow_run_id, within_s=400)
        final = ended(run, within_s=400)
        assert final["status"] == "success"
        assert {event["run_id"] for event in events(run)} == {run.name}
        branch = f"attractor/run/{run.name}"
        written = subprocess.run(
            ["git", "show", f"{branch}:who.txt"], cwd=repository, capture_output=True, text=True, check=True
        ).stdout
        assert written == f"{who}\n"
        authors_of_run = subprocess.run(
            ["git", "log", "--format=%s", "main.." + branch], cwd=repository, capture_output=True, text=True, check=True
        ).stdout.splitlines()
        assert all(line.startswith(f"attractor({run.name}): ") for line in authors_of_run)
        assert len(authors_of_run) == 3
    assert not (repository / "who.txt").exists()


@pytest.mark.timeout(400)
def test_a_cron_schedule_starts_a_run_by_itself(worker: Prefect) -> None:
    """A deployment with a cron schedule fires without anybody asking. The schedule is as old as the worker, so that waiting
    for its minute costs little here."""
    run = scheduled_run(worker, "attractor/attractor")
    assert ended(worker.run_directory(run["id"]))["status"] == "success"


def test_the_deployment_file_holds_no_absolute_path() -> None:
    """prefect.yaml works in any checkout: no path in it is absolute."""
    text = (ROOT / "prefect.yaml").read_text(encoding="utf-8")
    assert not re.search(r"(?m)(?:^|[\s\"'=])/(?:\w|~)", text)
