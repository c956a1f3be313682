"""What the commands show of a run that has restarted."""

from __future__ import annotations

from pathlib import Path

import pytest
from run_writer import RunWriter, append_all, stage

from kilroy_engine.cli.commands.render import picture_of_run
from kilroy_engine.cli.commands.runs_show import show
from kilroy_engine.cli.commands.status import snapshot
from kilroy_engine.cli.show.board import Board
from kilroy_engine.cli.show.event_text import Narrator
from kilroy_engine.cli.show.outcome import failed_stage
from kilroy_engine.events import EdgeSelected, LoopIteration, LoopRestart, StageAttemptEnd, StageAttemptStart
from kilroy_engine.rundir.files.layout import RunDirectory
from kilroy_engine.rundir.stages.restarts import make_restart
from kilroy_engine.rundir.stream.reader import read_run, tail_events
from kilroy_engine.traversal.state import RunState


def edge(source: str, condition: str) -> EdgeSelected:
    return EdgeSelected(
        from_node=source,
        to_node="build",
        label="",
        condition=condition,
        hop_source="edge_selection",
        selection_method="condition_match",
        candidates_evaluated=2,
        conditions_matched=1,
    )


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    """``build`` once, again in a loop, and again after a restart, where it fails; the run is not over."""
    writer = RunWriter(tmp_path, "r1")
    log = writer.open()
    again = LoopIteration(loop_id="build", iteration=1, begin_node="build", end_node="build")
    append_all(log, [*stage("start"), edge("start", ""), *stage("build"), again, *stage("build")])
    log.append(edge("build", "outcome=fail"))
    log.append(LoopRestart(restart_count=1, target_node="build", new_logs_root=str(writer.run.restart(1).path)))
    restart = make_restart(writer.run, RunState("r1", restart_count=1, jump_to="build"), git_commit_sha="")
    inner = log.beside(restart)
    inner.append(StageAttemptStart(node_id="build", attempt=1, max=1))
    inner.append(StageAttemptEnd(node_id="build", attempt=1, max=1, status="fail", failure_reason="no"))
    restart.stage("build").mkdir()
    log.close()
    inner.close()
    return writer.run


def test_status_tells_all_visits_and_how_often_it_restarted(run: RunDirectory) -> None:
    """Kilroy's own status goes silent at the restart."""
    known = snapshot(read_run(run.path))
    assert known["completed_nodes"] == ["start", "build", "build", "build"]
    assert (known["restart_count"], known["current_node_id"], known["last_event"]) == (1, "build", "stage_attempt_end")


def test_runs_show_tells_which_visit_belongs_to_which_restart(run: RunDirectory, capsys: pytest.CaptureFixture[str]) -> None:
    """In the table, and on the path with what led there."""
    show(str(run.path))
    assert "restart 1, 1" in capsys.readouterr().out
    show(str(run.path), path=True)
    lines = capsys.readouterr().out.splitlines()
    assert [line.strip("| ") for line in lines if line.startswith("  |")] == [
        "",
        "loop build, iteration 1 is over",
        "outcome=fail (restart 1)",
    ]
    assert any(line.startswith("[build] (visit restart 1, 1) fail") for line in lines)


def test_the_failed_stage_is_looked_up_in_its_restart(run: RunDirectory) -> None:
    """The folder of the same name in the run directory is of an earlier, successful visit."""
    assert failed_stage(run) == run.path / "restart-1" / "build"


def test_the_picture_shows_the_latest_visit(run: RunDirectory) -> None:
    """It failed in the restart, whatever it was before."""
    assert picture_of_run(run).statuses["build"] == "fail"


def test_the_board_counts_visits_anew_after_a_restart(run: RunDirectory) -> None:
    """As the stage folders do."""
    board = Board()
    over = [row for event in tail_events(run.path) for row in board.apply(event)]
    assert [(row.node_id, row.visit) for row in [*over, *board.rows]] == [
        ("start", 1),
        ("build", 1),
        ("build", 2),
        ("build", 1),
    ]


@pytest.mark.parametrize(
    ("event", "text"),
    [
        ({"event": "loop_restart", "restart_count": 2, "target_node": "plan"}, "restart 2 at plan"),
        ({"event": "loop_restart_signature", "node_id": "c"}, None),
        ({"event": "loop_restart_blocked", "node_id": "c", "target_node": "plan", "failure_class": "deterministic"},
         "c: no restart at plan after a failure of class deterministic"),
        ({"event": "loop_restart_circuit_breaker", "node_id": "c", "target_node": "plan", "signature_count": 3,
          "signature_limit": 3}, "c: no restart at plan, the same failure came 3 times (limit 3)"),
        ({"event": "loop_iteration", "loop_id": "m", "iteration": 1, "begin_node": "top"},
         "loop m: iteration 1 over, again at top"),
        ({"event": "loop_terminated", "loop_id": "m", "iterations": 1}, "loop m: over after 1 iteration"),
    ],
)  # fmt: skip
def test_events_of_loops_and_restarts_are_sentences(event: dict[str, object], text: str | None) -> None:
    """None for what only programs need."""
    assert Narrator().text(event) == text
