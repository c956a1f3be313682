"""The reconciler where the Prefect API does not answer: what the disk alone decides, on real run directories."""

from __future__ import annotations

import json
import os
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings
from starts import open_start

from kilroy_engine.events import RunStarted
from kilroy_engine.orchestration.ending.reconcile import Action, Finding, Patience, reconcile, reconcile_quickly
from kilroy_engine.rundir.ending.finalize import end_of, finalize_run
from kilroy_engine.rundir.ending.which_end_wins import Observed
from kilroy_engine.rundir.files.atomic import write_json
from kilroy_engine.rundir.files.layout import RunDirectory
from kilroy_engine.rundir.files.machine import process_start_time
from kilroy_engine.rundir.files.records import FinalOutcome, Manifest
from kilroy_engine.rundir.ownership.ownership import Owner
from kilroy_engine.rundir.stages.process_groups import record_process
from kilroy_engine.rundir.stream.progress import read_events
from kilroy_engine.traversal.outcome import FinalStatus
from kilroy_engine.workspace.git_worktree import plan_git

NOBODY = "http://127.0.0.1:9/api"
AT_ONCE = Patience(grace_s=0)


@pytest.fixture(autouse=True)
def no_api() -> Iterator[None]:
    """An API address where nobody listens."""
    with temporary_settings(updates={PREFECT_API_URL: NOBODY}):
        yield


def lost(root: Path, name: str = "r1", **lock: object) -> RunDirectory:
    """A run whose process is gone."""
    run = RunDirectory(root / name)
    start = open_start(run, RunStarted(flow_run_id="f1", graph_name="g", goal=""), run_id=name)
    Manifest(run_id=name, started_at=datetime.now(UTC), flow_run_id="f1").write(run)
    start.close()
    if lock:
        run.lock.write_text(json.dumps(json.loads(run.lock.read_text()) | lock))
        os.utime(run.lock, (time.time() - 1000,) * 2)
    return run


def ends(run: RunDirectory) -> list[str]:
    return [str(event["event"]) for event in read_events(run.progress) if event["event"] in ("run_completed", "run_failed")]


def actions(findings: list[Finding]) -> dict[str, Action]:
    return {found.run_id: found.action for found in findings}


def test_a_dead_run_of_this_machine_is_ended_and_its_child_with_it(tmp_path: Path) -> None:
    """final.json, one terminal line, the recorded process group ended; a second time there is nothing to do."""
    run = lost(tmp_path)
    stage = run.stage("build")
    stage.mkdir()
    child = subprocess.Popen(["sleep", "300"], start_new_session=True)
    record_process(stage, child)
    findings = reconcile(tmp_path, patience=AT_ONCE)
    assert child.wait(timeout=10) == -15
    assert [(found.action, found.status) for found in findings] == [(Action.END, "fail")]
    final = FinalOutcome.read(run)
    assert final.status == FinalStatus.FAIL
    assert final.failure_reason.startswith("crashed: the flow process (pid ")
    assert ends(run) == ["run_failed"]
    assert reconcile(tmp_path, patience=AT_ONCE) == []


def test_a_process_that_only_has_the_same_id_is_not_touched(tmp_path: Path) -> None:
    """The record names a process by its start time too."""
    run = lost(tmp_path)
    run.stage("build").mkdir()
    with subprocess.Popen(["sleep", "300"], start_new_session=True) as stranger:
        path = run.stage("build") / f"process-{stranger.pid}.json"
        record_process(run.stage("build"), stranger)
        write_json(path, json.loads(path.read_text()) | {"start_time": process_start_time(stranger.pid) - 1})
        reconcile(tmp_path, patience=AT_ONCE)
        assert stranger.poll() is None
        stranger.kill()


def test_a_dry_run_changes_nothing(tmp_path: Path) -> None:
    """It says what would be done, and not a byte or a time differs afterwards."""
    run = lost(tmp_path)
    before = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in run.path.rglob("*") if path.is_file()}
    assert actions(reconcile(tmp_path, patience=AT_ONCE, dry_run=True)) == {"r1": Action.END}
    assert {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in run.path.rglob("*") if path.is_file()} == before


def test_within_the_grace_and_on_other_machines_runs_are_left_alone(tmp_path: Path) -> None:
    """A run that showed a sign of life just now, and one whose owner is elsewhere while Prefect is silent."""
    lost(tmp_path, "fresh")
    lost(tmp_path, "elsewhere", host="elsewhere")
    assert actions(reconcile(tmp_path)) == {"fresh": Action.LEAVE, "elsewhere": Action.LEAVE}
    assert actions(reconcile(tmp_path, patience=AT_ONCE)) == {"fresh": Action.END, "elsewhere": Action.LEAVE}


def test_a_run_at_work_is_no_finding_and_a_damaged_one_is_an_error(tmp_path: Path) -> None:
    """What cannot be read is told to a person and keeps nobody else from being ended."""
    start = open_start(RunDirectory(tmp_path / "live"), RunStarted(flow_run_id="f1", graph_name="g", goal=""), run_id="live")
    lost(tmp_path, "damaged").lock.write_text("{")
    lost(tmp_path, "dead")
    assert actions(reconcile(tmp_path, patience=AT_ONCE)) == {"damaged": Action.ERROR, "dead": Action.END}
    start.close()


def test_reconcilers_at_once_write_one_end_per_run(tmp_path: Path) -> None:
    """Four at the same time over five runs: every run has one terminal line, and is ended by one of them."""
    runs = [lost(tmp_path, f"r{number}") for number in range(5)]
    look = partial(reconcile, tmp_path, patience=AT_ONCE)
    with ThreadPoolExecutor(4) as pool:
        looks = [pool.submit(copy_context().run, look) for _ in range(4)]  # the context holds the API's address
        found = [finding for done in looks for finding in done.result()]
    assert [ends(run) for run in runs] == [["run_failed"]] * 5
    assert {f.run_id for f in found if f.action is Action.END} == {run.path.name for run in runs}
    assert not [f for f in found if f.action is Action.ERROR]


def test_a_half_written_end_is_completed_with_the_status_that_stands(tmp_path: Path) -> None:
    """final.json of this start is there: only what is missing is added."""
    run = lost(tmp_path)
    end_of(run, Owner("f1", 1), Observed(FinalStatus.CANCELED)).write(run)
    assert actions(reconcile(tmp_path, patience=AT_ONCE)) == {"r1": Action.END}
    assert FinalOutcome.read(run).status == FinalStatus.CANCELED
    assert ends(run) == ["run_failed"]


def test_the_start_of_a_run_ends_lost_neighbors_past_the_grace_only(tmp_path: Path) -> None:
    """The quick look has the full grace, looks at so many directories, and stops when the run is over."""
    old, fresh = lost(tmp_path, "old"), lost(tmp_path, "fresh")
    for path in (old.path, *old.path.iterdir()):
        os.utime(path, (time.time() - 1000,) * 2)
    over = threading.Event()
    over.set()
    assert reconcile_quickly(tmp_path, finished=over) == []
    assert reconcile_quickly(tmp_path, finished=over, limit=1) == []
    assert actions(reconcile_quickly(tmp_path, finished=threading.Event())) == {"old": Action.END}
    assert (ends(old), ends(fresh)) == (["run_failed"], [])


@pytest.mark.parametrize(
    ("keep", "age_days", "max_age_days", "removed"),
    [("on_failure", 15, 14, True), ("on_failure", 13, 14, False), ("always", 15, 14, False), ("on_failure", 15, 0, False)],
)
def test_a_worktree_past_its_age_is_removed_and_its_branch_stays(
    tmp_path: Path, keep: str, age_days: int, max_age_days: int, *, removed: bool
) -> None:
    """As the run's own settings say: not before the age, never where it is to be kept always, or where the age is 0."""
    repo = tmp_path / "repo"
    for arguments in (("init", "-q", str(repo)), ("-C", str(repo), "commit", "-q", "--allow-empty", "-m", "one")):
        subprocess.run(["git", "-c", "user.name=t", "-c", "user.email=t@t", *arguments], check=True)
    run = lost(tmp_path / "runs")
    workspace = plan_git(repo, run_id="r1").open(run.worktree)
    manifest = Manifest(
        run_id="r1",
        started_at=datetime.now(UTC),
        worktree=str(run.worktree),
        repo_path=str(repo),
        run_branch=workspace.branch,
        base_sha=workspace.base_sha,
        flow_run_id="f1",
    )
    manifest.write(run)
    write_json(run.run_config, {"git": {"keep_worktree": keep, "worktree_max_age_ms": max_age_days * 86_400_000}})
    final = end_of(run, Owner("f1", 1), Observed(FinalStatus.FAIL, "exit status 1"))
    ended_at = datetime.now(UTC) - timedelta(days=age_days)
    owner = open_start(RunDirectory(tmp_path / "other"), RunStarted(flow_run_id="f1", graph_name="g", goal=""), run_id="o")
    owner.close()
    finalize_run(run, final.model_copy(update={"timestamp": ended_at}), owner=owner.owner)
    found = reconcile(tmp_path / "runs", patience=AT_ONCE)
    assert [f.action for f in found] == ([Action.WORKTREE] if removed else [])
    assert run.worktree.exists() is not removed
    branches = subprocess.run(["git", "-C", str(repo), "branch", "--list", workspace.branch], capture_output=True, check=True)
    assert workspace.branch.encode() in branches.stdout
