"""Opening a run: what refuses it leaves nothing behind, and what it was opened with is on record."""

from __future__ import annotations

import json

import pytest
from in_process import InProcess, opened
from whole_runs import Place

from kilroy_engine.errors import InvalidInput, KilroyError, RunAlreadyFinished, RunAlreadyOwned
from kilroy_engine.execution.preparing.inputs import MASK
from kilroy_engine.execution.preparing.preparation import RunParameters
from kilroy_engine.execution.run import live_run
from kilroy_engine.rundir.files.records import Manifest
from kilroy_engine.settings.options import Options

PIPELINE = 'a [tool_command="true"] start -> a -> done'
SAYS = 'inputs="token" a [tool_command="echo $KILROY_INPUT_TOKEN"] start -> a -> done'
SECRET = "s3cret-value"


def parameters(place: Place, **options: object) -> RunParameters:
    given = {"logs_root": str(place.run.path), "workspace": "git" if place.repo else "plain", **options}
    return RunParameters(str(place.write("pipeline.dot", PIPELINE)), repo=str(place.repo or ""), options=Options(**given))  # type: ignore[arg-type]


def test_what_it_was_opened_with_is_on_record(git_place: Place) -> None:
    """Pipeline, settings, place of work and flow run; while it is open it is found by its flow run."""
    prefect = InProcess()
    found = opened(parameters(git_place, run_id="r1"), prefect, base=git_place.folder)
    try:
        manifest = Manifest.find(git_place.run)
        assert manifest is not None
        assert (manifest.run_id, manifest.run_branch) == ("r1", "attractor/run/r1")
        assert manifest.flow_run_id == str(prefect.flow_runs[0].flow_run_id)
        assert manifest.base_sha == git_place.git("rev-parse", "HEAD").strip()
        assert json.loads(git_place.run.run_config.read_text())["repo"]["path"] == str(git_place.repo)
        assert live_run(prefect.flow_runs[0].flow_run_id) is found.run
    finally:
        found.run.close()
    assert live_run(prefect.flow_runs[0].flow_run_id) is None


def test_a_directory_with_a_run_in_it_is_refused(place: Place) -> None:
    """Nothing of that run is touched."""
    place.runs(PIPELINE)
    before = {path: path.read_bytes() for path in place.run.path.rglob("*") if path.is_file()}

    with pytest.raises(RunAlreadyFinished, match="is not empty"):
        opened(parameters(place), InProcess(), base=place.folder)
    assert {path: path.read_bytes() for path in place.run.path.rglob("*") if path.is_file()} == before


def test_a_run_that_is_at_work_cannot_be_resumed(place: Place) -> None:
    """Its lock says who has it."""
    found = opened(parameters(place), InProcess(), base=place.folder)
    try:
        with pytest.raises(RunAlreadyOwned):
            place.resumes()
    finally:
        found.run.close()


def test_a_place_of_work_that_cannot_be_made_leaves_nothing(git_place: Place) -> None:
    """A branch of that name is there already: no directory, no worktree, and the branch as it was."""
    git_place.git("branch", "attractor/run/r1")

    with pytest.raises(KilroyError, match="attractor/run/r1"):
        opened(parameters(git_place, run_id="r1"), InProcess(), base=git_place.folder)
    assert not git_place.run.path.exists()
    assert len(git_place.git("worktree", "list").splitlines()) == 1


def test_a_folder_that_was_there_stays_as_empty_as_it_was(git_place: Place) -> None:
    """Somebody made it for the run; a refused run does not take it away."""
    git_place.run.path.mkdir()
    git_place.git("branch", "attractor/run/r1")

    with pytest.raises(KilroyError):
        opened(parameters(git_place, run_id="r1"), InProcess(), base=git_place.folder)
    assert list(git_place.run.path.iterdir()) == []


class TestSecrets:
    """Inputs that name a secret: the stage has its value, nothing else does."""

    def test_a_named_secret_is_the_orchestrators(self, place: Place) -> None:
        """The stage's own log has what it printed; context, events, run log and records have the name or the mask."""
        ran = place.runs(SAYS, inputs={"token": "secret:deploy"}, orchestrator=InProcess(secrets={"deploy": SECRET}))

        assert ran.end == ("success", "")
        assert ran.file("a/stdout.log") == f"{SECRET}\n"
        holding = {path.name for path in ran.run.path.rglob("*") if path.is_file() and SECRET.encode() in path.read_bytes()}
        assert holding == {"stdout.log"}
        assert MASK in str(ran.context["tool.output"])

    def test_one_of_the_environment_is_looked_up_where_the_run_is(self, place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
        """Again in every start: it may have another value by then."""
        waits = SAYS.replace("echo $KILROY_INPUT_TOKEN", "echo $KILROY_INPUT_TOKEN; test -e ../../go").replace(
            "a -> done", 'a -> done [condition="outcome=success"]'
        )
        monkeypatch.setenv("DEPLOY_TOKEN", SECRET)
        place.runs(waits, inputs={"token": "env:DEPLOY_TOKEN"})
        assert place.run.stage("a").joinpath("stdout.log").read_text() == f"{SECRET}\n"
        monkeypatch.setenv("DEPLOY_TOKEN", "another")
        (place.folder / "go").touch()
        ran = place.resumes()

        assert ran.end == ("success", "")
        assert ran.file("a/stdout.log") == "another\n"

    def test_one_that_is_not_there_refuses_the_run(self, place: Place) -> None:
        """By its name, and nothing is left."""
        with pytest.raises(InvalidInput, match="deploy"):
            place.runs(SAYS, inputs={"token": "secret:deploy"})
        assert not place.run.path.exists()
