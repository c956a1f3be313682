"""A resumed run: its settings, its inputs, and how a flow run finds the run that it has started before."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from prefect.client.schemas.objects import FlowRun
from prefect.settings import PREFECT_LOGGING_TO_API_ENABLED, temporary_settings
from prefect.states import Completed, Crashed, Failed

from kilroy_engine.errors import InvalidInput
from kilroy_engine.events import RunStarted
from kilroy_engine.events.times import now
from kilroy_engine.graph.dot.parse import parse_dot
from kilroy_engine.orchestration import hooks
from kilroy_engine.orchestration.flow import attractor
from kilroy_engine.orchestration.locate import RUN_DIRECTORY_LABEL, earlier_start
from kilroy_engine.orchestration.preparation import RunParameters, prepare_run
from kilroy_engine.orchestration.resume import read_earlier, resumption_of
from kilroy_engine.orchestration.settings import Options, RunSettings, resolve_settings, run_config, saved_settings
from kilroy_engine.rundir.ending.starts import OpenStart, open_start
from kilroy_engine.rundir.files.atomic import write_json
from kilroy_engine.rundir.files.checkpoint import save_checkpoint
from kilroy_engine.rundir.files.layout import RunDirectory, run_id_of
from kilroy_engine.rundir.files.records import Manifest
from kilroy_engine.rundir.stream.progress import is_ended, read_events
from kilroy_engine.traversal.fold import initial_state
from kilroy_engine.traversal.outcome import success

GRAPH = """digraph two {
  inputs="version, token"
  start [shape=Mdiamond]
  work [shape=parallelogram, tool_command="true"]
  done [shape=Msquare]
  start -> work -> done
}
"""
INPUTS = {"version": "1", "token": "env:TOKEN"}
SETTINGS = RunSettings(
    simulate=True,
    human="auto-approve",
    agent="simulate",
    workspace="plain",
    run_timeout_s=90.0,
    stage_timeout_s=3600.0,
    keep_worktree="always",
    require_clean=True,
    push_remote="origin",
    run_branch_prefix="team/run",
    checkpoint_exclude_globs=("**/target/**",),
    setup_commands=("make deps",),
    setup_timeout_s=30.0,
    inputs=INPUTS,
    labels={"team": "blue"},
)


def interrupted_run(path: Path, settings: RunSettings = SETTINGS) -> RunDirectory:
    """A plain run whose start node has finished."""
    run = RunDirectory(path)
    path.mkdir(parents=True)
    run.worktree.mkdir()
    run.graph_dot.write_text(GRAPH)
    write_json(run.run_config, run_config(settings, repo_path=None, inputs=INPUTS))
    Manifest(
        run_id="r1",
        graph_name="two",
        started_at=now(),
        worktree=str(run.worktree),
        inputs=dict(INPUTS),
        labels={"team": "blue"},
    ).write(run)
    state = initial_state(parse_dot(GRAPH, "two.dot"), run_id="r1", inputs=INPUTS)
    outcomes = {"start": success()}
    save_checkpoint(
        run,
        dataclasses.replace(state, completed=("start",), outcomes=outcomes, visits={"start": 1}, routing_outcome=success()),
    )
    return run


def test_every_setting_comes_back_from_the_run_directory(tmp_path: Path) -> None:
    """run_config.json holds all of them: what is read from it is what was written, whatever the environment says now."""
    run = interrupted_run(tmp_path / "r1")
    elsewhere = {"KILROY_RUN_TIMEOUT": "1s", "KILROY_CONFIG": "/absent.yaml", "KILROY_REPO": "/elsewhere"}
    assert resolve_settings(Options(), environ=elsewhere, saved=saved_settings(run)) == SETTINGS


def test_what_is_given_with_the_resume_wins(tmp_path: Path) -> None:
    """Options, inputs and labels, each by itself."""
    run = interrupted_run(tmp_path / "r1")
    options = Options(resume_from=str(run.path), stage_timeout="5s")
    parameters = RunParameters("", inputs={"version": "2"}, options=options, labels={"try": "2"})

    prepared = prepare_run(parameters, environ={}, base=tmp_path)

    assert (prepared.settings.stage_timeout_s, prepared.settings.run_timeout_s) == (5.0, 90.0)
    assert prepared.inputs == {"version": "2", "token": "env:TOKEN"}
    assert prepared.labels == {"team": "blue", "try": "2"}
    place = resumption_of(read_earlier(run.path), prepared.graph, prepared.inputs)
    assert place.from_node == "work"
    assert (place.state.context["input.version"], place.state.context["input.token"]) == ("2", "env:TOKEN")


def test_a_run_is_named_by_its_id_or_by_its_path(tmp_path: Path) -> None:
    """``resume_from`` takes both; an id counts from the runs root."""
    run = interrupted_run(tmp_path / "runs" / "r1")
    for reference in ("r1", str(run.path)):
        parameters = RunParameters("", options=Options(resume_from=reference))
        earlier = prepare_run(parameters, environ={"KILROY_RUNS_ROOT": str(tmp_path / "runs")}).earlier
        assert earlier is not None
        assert earlier.directory == run


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        (RunParameters("", repo="/elsewhere"), "works on the folder .*worktree, and not on /elsewhere"),
        (RunParameters("", options=Options(run_id="r2")), "run r1 keeps its id"),
    ],
)
def test_a_run_cannot_be_moved_by_its_resume(tmp_path: Path, parameters: RunParameters, message: str) -> None:
    """Where it works and what it is called are decided once."""
    run = interrupted_run(tmp_path / "r1")
    with pytest.raises(InvalidInput, match=message):
        prepare_run(parameters.resuming(run), environ={}, base=tmp_path)


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
