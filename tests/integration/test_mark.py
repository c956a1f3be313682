"""Flow runs of ours are known by their mark, whatever the flow is called; others are nobody's to end."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings
from real_prefect import Prefect, ended, eventually, recorded_pids

from kilroy_engine.orchestration.ending.reconcile import Action, Patience, reconcile
from kilroy_engine.orchestration.mark import MARK

AT_ONCE = Patience(grace_s=0, heartbeat_s=0)
SLOW = (
    "digraph slow { start [shape=Mdiamond] done [shape=Msquare] "
    'wait [shape=parallelogram, tool_command="sleep 300"] start -> wait  wait -> done [condition="outcome=success"] }'
)
SCRIPT = """
import sys
from kilroy_engine.orchestration.flows.pipeline_flow import pipeline_flow

report = pipeline_flow("slow.dot").with_options(name="weekly report")
report(options={"workspace": "plain", "logs_root": sys.argv[1]})
"""
"""A program of a user's, which gives the flow a name of its own."""


@pytest.fixture
def api(prefect: Prefect) -> Iterator[Prefect]:
    """The server, asked from this process."""
    with temporary_settings(updates={PREFECT_API_URL: prefect.api_url}):
        yield prefect


def flow_run(prefect: Prefect, flow: str, state: str, **facts: Any) -> str:
    """A flow run as some program made it and left it."""
    flow_id = prefect.post("/flows/", name=flow)["id"]
    return prefect.post("/flow_runs/", flow_id=flow_id, state={"type": state}, **facts)["id"]


def state_of(prefect: Prefect, flow_run_id: str) -> str:
    return prefect.flow_run(flow_run_id)["state"]["type"]


@pytest.mark.parametrize("state", ["RUNNING", "PENDING", "CANCELLING"])
def test_a_flow_of_a_users_that_is_called_attractor_is_left_alone(api: Prefect, tmp_path: Path, state: str) -> None:
    """Whatever its parameters name, and although nobody seems to work on it."""
    parameters = {"graph": SLOW, "options": {"logs_root": str(tmp_path)}}
    theirs = flow_run(api, "attractor", state, parameters=parameters, tags=["kilroy", "nightly"])
    assert reconcile(tmp_path / "runs", patience=AT_ONCE) == []
    assert state_of(api, theirs) == state
    api.ask("DELETE", f"/flow_runs/{theirs}")


def test_a_marked_deployments_flow_run_without_a_body_is_ended_whatever_its_flow_is_called(
    api: Prefect, tmp_path: Path
) -> None:
    """The deployment's tag is the flow run's: nothing of ours has seen it yet."""
    flow_id = api.post("/flows/", name="weekly report")["id"]
    deployment = api.post("/deployments/", name="weekly", flow_id=flow_id, tags=[MARK])["id"]
    ours = api.post(f"/deployments/{deployment}/create_flow_run", state={"type": "CANCELLING"})["id"]
    assert state_of(api, ours) == "CANCELLING"
    found = reconcile(tmp_path / "runs", patience=AT_ONCE)
    assert [finding.action for finding in found] == [Action.STATE]
    assert state_of(api, ours) == "CANCELLED"


def test_a_killed_run_of_a_flow_with_another_name_is_found_by_its_mark(api: Prefect, tmp_path: Path) -> None:
    """Its program has set no tag and its directory is nowhere near the runs root: the body marks the flow run. Prefect's events
    about the end name the flow as it is called."""
    (tmp_path / "slow.dot").write_text(SLOW, encoding="utf-8")
    run = tmp_path / "elsewhere" / "r1"
    command = [sys.executable, "-c", SCRIPT, str(run)]
    with subprocess.Popen(
        command, cwd=tmp_path, env=api.environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        try:
            eventually(lambda: run.exists() and recorded_pids(run), what="a tool at work")
        finally:
            process.kill()
    manifest = json.loads((run / "manifest.json").read_text(encoding="utf-8"))
    flow_run_id = manifest["flow_run_id"]
    assert api.flow_run(flow_run_id)["tags"] == [MARK]
    found = reconcile(tmp_path / "runs", patience=AT_ONCE)
    assert [(finding.run.path, finding.action) for finding in found] == [(run, Action.END)]
    assert ended(run)["crashed"] is True
    assert state_of(api, flow_run_id) == "CRASHED"
    assert end_event(api, manifest["run_id"])["flow"] == "weekly report"


def end_event(prefect: Prefect, run_id: str) -> dict[str, str]:
    """Names of what the event of the run's end is related to, by their role."""

    def told() -> list[dict[str, Any]] | None:
        wanted = {"event": {"name": ["kilroy.run.failed"]}, "any_resource": {"id": [f"kilroy.run.{run_id}"]}}
        return prefect.post("/events/filter", filter=wanted)["events"]

    (event,) = eventually(told, what="the event of the end")
    return {related["prefect.resource.role"]: related.get("prefect.resource.name", "") for related in event["related"]}


def test_the_command_and_its_child_pipelines_are_marked(api: Prefect, tmp_path: Path) -> None:
    """The command's flow run from its creation, a child pipeline's by its body. No stage has the mark: limits are on tags."""
    (tmp_path / "child.dot").write_text(SLOW.replace("sleep 300", "true"), encoding="utf-8")
    (tmp_path / "parent.dot").write_text(
        "digraph parent { start [shape=Mdiamond] done [shape=Msquare] "
        'boss [shape=folder, dot_file="child.dot"] start -> boss  boss -> done [condition="outcome=success"] }',
        encoding="utf-8",
    )
    run = tmp_path / "r1"
    command = [sys.executable, "-m", "kilroy_engine.cli.main", "run", "parent.dot", "--no-git", "--logs-root", str(run)]
    subprocess.run(command, cwd=tmp_path, env=api.environment, check=True, capture_output=True, timeout=120)
    parent = json.loads((run / "manifest.json").read_text(encoding="utf-8"))["flow_run_id"]
    (child,) = api.post("/flow_runs/filter", flow_runs={"tags": {"all_": [MARK]}, "parent_flow_run_id": {"any_": [parent]}})
    assert api.flow_run(parent)["tags"] == [MARK]
    stages = [stage for flow_run_id in (parent, child["id"]) for stage in api.task_runs(flow_run_id, count=3)]
    assert {"boss", "wait"} <= {stage["name"] for stage in stages}
    assert not [stage["name"] for stage in stages if MARK in stage["tags"]]
