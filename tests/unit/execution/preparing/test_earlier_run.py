"""A resumed run: its settings, its inputs, its place."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from kilroy_engine.errors import InvalidInput
from kilroy_engine.events.times import now
from kilroy_engine.execution.preparing.preparation import RunParameters, prepare_run
from kilroy_engine.execution.preparing.resume import read_earlier, resumption_of
from kilroy_engine.execution.preparing.settings import resolve_settings
from kilroy_engine.graph.dot.parse import parse_dot
from kilroy_engine.rundir.files.atomic import write_json
from kilroy_engine.rundir.files.checkpoint import save_checkpoint
from kilroy_engine.rundir.files.layout import RunDirectory
from kilroy_engine.rundir.files.records import Manifest
from kilroy_engine.rundir.files.run_config import read_run_config, run_config
from kilroy_engine.settings.options import Options
from kilroy_engine.settings.table import RunSettings
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
    assert resolve_settings(Options(), environ=elsewhere, saved=read_run_config(run)) == SETTINGS


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
