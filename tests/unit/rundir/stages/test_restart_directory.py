"""``restart-N/``: complete before it has its name, and leading on to where the run is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kilroy_engine.errors import RunDirectoryError
from kilroy_engine.events import StageAttemptStart, WarningGiven
from kilroy_engine.events.times import now
from kilroy_engine.rundir.files.checkpoint import load_checkpoint
from kilroy_engine.rundir.files.layout import RunDirectory
from kilroy_engine.rundir.files.records import Manifest
from kilroy_engine.rundir.stages.restarts import make_restart, write_restart_records
from kilroy_engine.rundir.stream.progress import ProgressLog, read_events
from kilroy_engine.rundir.stream.visits import read_visits
from kilroy_engine.traversal.state import RunState

STATE = RunState("r1", context={"graph.goal": "ship"}, restart_count=1, restart_signatures={"c|x|y": 1}, jump_to="work")


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    run = RunDirectory(tmp_path / "r1")
    run.path.mkdir()
    run.graph_dot.write_text("digraph g { }")
    run.run_config.write_text('{"simulate": true}')
    Manifest(run_id="r1", started_at=now(), logs_root=str(run.path), worktree="/w", labels={"team": "x"}).write(run)
    return run


def test_a_restart_has_the_records_of_the_run_and_a_checkpoint(run: RunDirectory) -> None:
    """Kilroy writes manifest.json, run_config.json and graph.dot; the checkpoint is ours: a resume needs it at once."""
    restart = make_restart(run, STATE, git_commit_sha="c0ffee")
    assert restart == run.restart(1) == run.ending_directories()[0]
    manifest = json.loads(restart.manifest.read_bytes())
    assert {manifest[key] for key in ("logs_root", "graph_dot", "run_config_path")} == {
        str(restart.path),
        str(restart.graph_dot),
        str(restart.run_config),
    }
    assert (manifest["worktree"], manifest["labels"]) == ("/w", {"team": "x"})
    assert restart.graph_dot.read_bytes() == run.graph_dot.read_bytes()
    assert restart.run_config.read_bytes() == run.run_config.read_bytes()
    saved = load_checkpoint(restart)
    assert (saved.state, saved.git_commit_sha, saved.base_logs_root) == (STATE, "c0ffee", str(run.path))
    assert [entry.name for entry in run.path.iterdir() if entry.name.startswith(".tmp-")] == []


def test_what_a_killed_start_has_left_of_it_is_made_anew(run: RunDirectory) -> None:
    """Without its name the directory is nothing: readers do not see it, and the next try replaces it."""
    left = run.path / ".tmp-restart-1"
    left.mkdir()
    (left / "checkpoint.json").write_text("half")
    assert run.restarts() == 0
    restart = make_restart(run, STATE, git_commit_sha="")
    assert load_checkpoint(restart).state == STATE
    assert not left.exists()


def test_a_restart_that_is_there_is_not_overwritten(run: RunDirectory) -> None:
    """It would be somebody's work."""
    make_restart(run, STATE, git_commit_sha="")
    with pytest.raises(RunDirectoryError, match=r"cannot make .*restart-1"):
        make_restart(run, STATE, git_commit_sha="")


def test_a_later_start_renews_the_records_of_its_restart(run: RunDirectory) -> None:
    """A resume may go on with another pipeline and belongs to another flow run."""
    restart = make_restart(run, STATE, git_commit_sha="")
    run.graph_dot.write_text("digraph changed { }")
    Manifest.read(run).model_copy(update={"flow_run_id": "later"}).write(run)
    write_restart_records(run, restart)
    assert restart.graph_dot.read_text() == "digraph changed { }"
    manifest = Manifest.read(restart)
    assert (manifest.flow_run_id, manifest.logs_root) == ("later", str(restart.path))


def test_who_listens_to_the_run_hears_its_restarts(run: RunDirectory) -> None:
    """The watchdog's clock and the bell in Prefect: listeners are shared, whichever directory the run is in when they come."""
    log = ProgressLog(run, "r1")
    heard: list[str] = []
    log.listen(lambda event: heard.append(f"early {event.event}"))
    inner = log.beside(make_restart(run, STATE, git_commit_sha=""))
    inner.listen(lambda event: heard.append(f"late {event.event}"))
    inner.append(WarningGiven(message="x"))
    log.append(StageAttemptStart(node_id="a", attempt=1, max=1))
    assert heard == ["early warning", "late warning", "early stage_attempt_start", "late stage_attempt_start"]
    assert [event["event"] for event in read_events(run.restart(1).progress)] == ["warning"]


def test_visits_of_a_restart_count_anew_and_know_their_directory(run: RunDirectory) -> None:
    """The second arrival at ``work`` is the first one of restart 1, whose folder is in there."""

    def event(name: str, **fields: object) -> dict[str, object]:
        return {"event": name, "ts": "2026-01-01T00:00:00Z", **fields}

    start = event("stage_attempt_start", node_id="work", attempt=1, max=1)
    end = event("stage_attempt_end", node_id="work", attempt=1, max=1, status="fail")
    visits = read_visits([start, end, start, end, event("loop_restart", restart_count=1), start, end])
    assert [(visit.number, visit.restart, visit.which) for visit in visits] == [
        (1, 0, "1"),
        (2, 0, "2"),
        (1, 1, "restart 1, 1"),
    ]
    assert [visit.stage_dir(run) for visit in visits[1:]] == [run.path / "work", run.path / "restart-1" / "work"]
