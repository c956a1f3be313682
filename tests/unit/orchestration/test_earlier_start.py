"""A flow run that was started before: how it finds its run, and that no late hook ends what is at work elsewhere."""

from __future__ import annotations

import os
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from prefect.client.schemas.objects import FlowRun
from prefect.settings import PREFECT_LOGGING_TO_API_ENABLED, temporary_settings
from prefect.states import Completed, Crashed, Failed
from starts import open_start

from kilroy_engine.events import RunStarted
from kilroy_engine.events.times import now
from kilroy_engine.orchestration.ending import hooks
from kilroy_engine.orchestration.flows.attractor import attractor
from kilroy_engine.orchestration.locate import RUN_DIRECTORY_LABEL, earlier_start
from kilroy_engine.rundir.ending.starts import OpenStart
from kilroy_engine.rundir.files.layout import RunDirectory, run_id_of
from kilroy_engine.rundir.files.records import Manifest
from kilroy_engine.rundir.stream.progress import is_ended, read_events


def flow_run_of(run: RunDirectory | None = None, *, labels: dict[str, str] | None = None, **options: str) -> FlowRun:
    given = {"logs_root": str(run.path)} if run else {}
    return FlowRun(flow_id=uuid4(), name="demo", parameters={"options": {**given, **options}}, labels=dict(labels or {}))


def begin(path: Path, flow_run_id: UUID) -> OpenStart:
    return open_start(RunDirectory(path), RunStarted(flow_run_id=str(flow_run_id), graph_name="two", goal=""), run_id="r1")


def test_a_flow_run_knows_the_run_that_it_has_started_before(tmp_path: Path) -> None:
    """By its label; by the lock's record where it was killed before it wrote the label; the first time there is none."""
    run = RunDirectory(tmp_path / "r1")
    flow_run = flow_run_of(run)
    assert earlier_start(flow_run, os.environ) is None
    assert earlier_start(flow_run_of(labels={RUN_DIRECTORY_LABEL: "/runs/r7"}), os.environ) == RunDirectory(Path("/runs/r7"))
    begin(run.path, flow_run.id).close()
    assert earlier_start(flow_run, os.environ) == run
    assert earlier_start(flow_run_of(run), os.environ) is None
    by_id = FlowRun(flow_id=uuid4(), name="demo")
    begin(tmp_path / run_id_of(by_id.id), by_id.id).close()
    assert earlier_start(by_id, {"KILROY_RUNS_ROOT": str(tmp_path)}) == RunDirectory(tmp_path / run_id_of(by_id.id))


@pytest.mark.parametrize("state", [Failed(message="refused"), Completed(message="already succeeded"), Crashed(message="gone")])
def test_no_hook_ends_a_run_that_is_at_work_elsewhere(tmp_path: Path, state: Failed | Completed | Crashed) -> None:  # type: ignore[valid-type]
    """A refused retry, and a late hook of the start before: both belong to the flow run that owns the run now."""
    run = RunDirectory(tmp_path / "r1")
    flow_run = flow_run_of(run)
    start = begin(run.path, flow_run.id)
    Manifest(run_id="r1", started_at=now(), flow_run_id=str(flow_run.id)).write(run)
    with temporary_settings(updates={PREFECT_LOGGING_TO_API_ENABLED: False}):
        hooks.finalize(attractor, flow_run, state)
    assert [event["event"] for event in read_events(run.progress)] == ["run_started"]
    assert not is_ended(run.progress)
    start.close()


def test_a_refusal_is_no_reason_of_the_end_before_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The start before had died unseen: the hook of the refused retry ends it as what it was, a crash."""
    monkeypatch.setattr(hooks, "publish_end", lambda *arguments, **named: None)  # no server here
    run = RunDirectory(tmp_path / "r1")
    flow_run = flow_run_of(run)
    begin(run.path, flow_run.id).close()
    Manifest(run_id="r1", started_at=now(), flow_run_id=str(flow_run.id)).write(run)
    with temporary_settings(updates={PREFECT_LOGGING_TO_API_ENABLED: False}):
        hooks.finalize(attractor, flow_run, Failed(message="the pipeline has changed"))
    last = list(read_events(run.progress))[-1]
    assert (last["event"], last["reason"]) == ("run_failed", "crashed: the flow process ended without a conclusion")
