"""A resume that is refused says why, ends with 1 and leaves the run directory as it is: every file, byte and time."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from starts import open_start

from kilroy_engine.cli.main import main
from kilroy_engine.events import RunStarted
from kilroy_engine.events.times import now
from kilroy_engine.rundir.ending.finalize import end_run
from kilroy_engine.rundir.files.atomic import write_json
from kilroy_engine.rundir.files.checkpoint import save_checkpoint
from kilroy_engine.rundir.files.layout import RunDirectory
from kilroy_engine.rundir.files.records import Conclusion, Manifest
from kilroy_engine.rundir.files.run_config import run_config
from kilroy_engine.rundir.ownership.ownership import Owner
from kilroy_engine.settings.table import RunSettings
from kilroy_engine.traversal.outcome import FinalStatus, failure, success
from kilroy_engine.traversal.state import RunState

GRAPH = """digraph two {
  start [shape=Mdiamond]
  work [shape=parallelogram, tool_command="false"]
  done [shape=Msquare]
  start -> work
  work -> done [condition="outcome=success"]
}
"""
FLOW_RUN = "0c0cb5e2-0000-4000-8000-000000000001"


@pytest.fixture(autouse=True)
def own_state_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What is refused only by the flow has started a server: one of this test's own, which ends with it."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    yield
    main(["server", "stop"])


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    path = tmp_path / "repository"
    path.mkdir()
    identity = ("-c", "user.name=Test", "-c", "user.email=test@localhost")
    for arguments in (("init", "--quiet"), ("commit", "--quiet", "--allow-empty", "--message=one")):
        subprocess.run(["git", *identity, *arguments], cwd=path, check=True)
    return path


@pytest.fixture
def run(tmp_path: Path, repository: Path) -> RunDirectory:
    """A run that failed at its tool, in a git repository."""
    return failed_run(tmp_path / "runs" / "r1", repository)


def failed_run(path: Path, repository: Path | None, status: FinalStatus = FinalStatus.FAIL) -> RunDirectory:
    run = RunDirectory(path)
    path.mkdir(parents=True)
    sha = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=repository, capture_output=True, text=True, check=True
    ).stdout.strip()
    run.graph_dot.write_text(GRAPH)
    write_json(run.run_config, run_config(RunSettings(), repo_path=repository, inputs={}))
    Manifest(
        run_id="r1",
        graph_name="two",
        started_at=now(),
        worktree=str(run.worktree),
        repo_path=str(repository or ""),
        run_branch="attractor/run/r1" if repository else "",
        base_sha=sha if repository else "",
        flow_run_id=FLOW_RUN,
    ).write(run)
    start = open_start(run, RunStarted(flow_run_id=FLOW_RUN, graph_name="two", goal=""), run_id="r1")
    run.worktree.mkdir()
    state = RunState(
        "r1",
        completed=("start", "work"),
        outcomes={"start": success(), "work": failure("exit status 1")},
        visits={"start": 1, "work": 1},
        routing_outcome=failure("exit status 1"),
    )
    save_checkpoint(run, state, git_commit_sha=sha if repository else "")
    Conclusion(status=status, reason="" if status is FinalStatus.SUCCESS else "exit status 1").write(run)
    start.close()
    end_run(run, Owner(FLOW_RUN, 1))
    return run


def snapshot(run: RunDirectory) -> dict[str, tuple[bytes, int]]:
    return {str(file): (file.read_bytes(), file.stat().st_mtime_ns) for file in run.path.rglob("*") if file.is_file()}


def refused(run: RunDirectory, capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """What the command says when it refuses, without having touched anything."""
    before = snapshot(run)
    assert main(["resume", str(run.path), *arguments]) == 1
    assert snapshot(run) == before
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "Traceback" not in shown.err
    assert "bug in Kilroy" not in shown.err
    return shown.err


def test_a_success_is_refused(tmp_path: Path, repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """There is nothing to go on with."""
    run = failed_run(tmp_path / "runs" / "r1", repository, FinalStatus.SUCCESS)
    assert "run r1 has succeeded; there is nothing to resume" in refused(run, capsys)


def test_a_live_run_is_refused(run: RunDirectory, capsys: pytest.CaptureFixture[str]) -> None:
    """Its process is named."""
    opening = RunStarted(flow_run_id="0c0cb5e2-0000-4000-8000-000000000002", graph_name="two", goal="")
    start = open_start(run, opening, run_id="r1")
    try:
        said = refused(run, capsys)
        assert f'run directory "{run.path}" is already owned by a live process (pid={run.pid.read_text()})' in said
    finally:
        start.close()


def test_a_changed_pipeline_is_refused_with_the_difference(
    run: RunDirectory, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A unified diff, and both ways to go on."""
    changed = tmp_path / "two.dot"
    changed.write_text(GRAPH.replace('"false"', '"true"'))
    said = refused(run, capsys, "--graph", str(changed))
    assert "the pipeline has changed since run r1 began" in said
    assert '\n-  work [shape=parallelogram, tool_command="false"]\n+  work [shape=parallelogram, tool_command="true"]\n' in said
    assert "`kilroy resume r1 --graph FILE --force`" in said
    assert "`kilroy resume r1`" in said


def test_a_forced_pipeline_must_have_the_saved_node(
    run: RunDirectory, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """``--force`` is no way around what cannot work."""
    other = tmp_path / "other.dot"
    other.write_text("digraph o { start [shape=Mdiamond] done [shape=Msquare] start -> done }")
    said = refused(run, capsys, "--graph", str(other), "--force")
    assert 'the saved run is at node "work", which the pipeline does not have' in said


def damage(what: str, text: str) -> Callable[[RunDirectory], None]:
    def do(run: RunDirectory) -> None:
        (run.path / what).parent.mkdir(exist_ok=True)
        (run.path / what).write_text(text)

    return do


@pytest.mark.parametrize(
    ("damaged", "says"),
    [
        (damage("checkpoint.json", '{"timestamp":'), ["checkpoint.json is damaged", "Restore it from run.tgz"]),
        (damage("checkpoint.json", "{}"), ["checkpoint.json is damaged", "start the pipeline anew"]),
        (damage("manifest.json", "no"), ["manifest.json is damaged", "Restore it from run.tgz"]),
        (damage("run_config.json", "[]"), ["run_config.json is damaged", "Restore it from run.tgz"]),
        (damage("run.lock.json", "x" * 40), ["run.lock.json is damaged", "Remove it"]),
        (damage("graph.dot", "digraph {"), ["graph.dot"]),
        (damage("restart-1/checkpoint.json", "{}"), ["restart-1/checkpoint.json is damaged", "Restore it from run.tgz"]),
        (lambda run: run.restart(1).path.mkdir(), ["restart-1/checkpoint.json is missing", "restore it from run.tgz"]),
        (lambda run: run.graph_dot.unlink(), ["graph.dot", "restore it from run.tgz or start anew"]),
        (lambda run: run.run_config.unlink(), ["run_config.json does not exist"]),
        (lambda run: run.manifest.unlink(), ["manifest.json is missing", "start the pipeline anew"]),
    ],
)
def test_a_damaged_record_is_named(
    run: RunDirectory, capsys: pytest.CaptureFixture[str], damaged: Callable[[RunDirectory], None], says: list[str]
) -> None:
    """The message names the file and says what to do about it."""
    damaged(run)
    said = refused(run, capsys)
    for text in says:
        assert text in said


def test_a_checkpoint_of_another_run_is_refused(run: RunDirectory, capsys: pytest.CaptureFixture[str]) -> None:
    """Copied by mistake, it would lead the run astray."""
    text = run.checkpoint.read_text()
    run.checkpoint.write_text(text.replace('"run_id":"r1"', '"run_id":"r2"').replace('"run_id": "r1"', '"run_id": "r2"'))
    assert "checkpoint.json belongs to run r2, not to r1" in refused(run, capsys)


def test_a_repository_that_is_gone_is_refused(run: RunDirectory, repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Neither a lost folder nor one without git is taken for the repository."""
    shutil.rmtree(repository / ".git")
    assert f"the repository of run r1 is gone: {repository}" in refused(run, capsys)
    shutil.rmtree(repository)
    assert f"the repository of run r1 is gone: {repository}" in refused(run, capsys)


def test_a_commit_that_is_gone_is_refused(run: RunDirectory, repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A repository that was cloned anew has not got the run's commits."""
    shutil.rmtree(repository / ".git")
    subprocess.run(["git", "init", "--quiet"], cwd=repository, check=True)
    said = refused(run, capsys)
    assert f"of run r1 is not in {repository}" in said


def test_a_plain_run_whose_folder_is_gone_is_refused(
    tmp_path: Path, repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The work of its finished stages was only there."""
    run = failed_run(tmp_path / "runs" / "plain", repository)
    manifest = Manifest.read(run).model_copy(update={"repo_path": "", "run_branch": "", "base_sha": ""})
    manifest.write(run)
    run.worktree.rmdir()
    assert f"work folder {run.worktree} is gone" in refused(run, capsys)


@pytest.mark.parametrize("reference", ["nosuchrun", "./nosuchrun"])
def test_a_run_that_is_not_there_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, reference: str
) -> None:
    """By id or by path."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KILROY_RUNS_ROOT", str(tmp_path / "runs"))
    assert main(["resume", reference]) == 1
    assert "nosuchrun" in capsys.readouterr().err


def test_a_missing_input_of_a_forced_pipeline_is_refused(
    run: RunDirectory, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What the new pipeline declares has to be given."""
    changed = tmp_path / "two.dot"
    changed.write_text(GRAPH.replace("digraph two {", 'digraph two { inputs="version"'))
    assert "missing required inputs: version" in refused(run, capsys, "--graph", str(changed), "--force")
