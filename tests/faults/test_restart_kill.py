"""A run that is killed on its way into a restart, or inside of one, is resumed where it was."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from real_prefect import Prefect
from sweep_run import TERMINAL, Place, killed, make_place, parsed

PIPELINE = r"""digraph restarting {
  node  [shape=parallelogram]
  start [shape=Mdiamond]
  work  [tool_command="echo work >> $SIDE; echo w >> work"]
  again [tool_command="echo again >> $SIDE; echo a >> again", loop_count=2]
  check [tool_command="echo check >> $SIDE; [ $(wc -l < work) -ge 2 ] || {
           printf '{\"status\": \"fail\", \"failure_reason\": \"connection reset\"}' > $KILROY_STAGE_LOGS_DIR/status.json
           exit 1; }"]
  done  [shape=Msquare]
  start -> work -> again -> check
  check -> done [condition="outcome=success"]
  check -> work [condition="outcome=fail && context.failure_class=transient_infra", loop_restart=true]
}
"""
LAP = ["work", "again", "again", "check"]


@pytest.fixture(scope="module")
def place(prefect: Prefect, tmp_path_factory: pytest.TempPathFactory) -> Place:
    place = make_place(tmp_path_factory.mktemp("restarts"), prefect.environment)
    (place.folder / "sweep.dot").write_text(PIPELINE, encoding="utf-8")
    return place


def events_in(directory: Path) -> list[dict[str, Any]]:
    return parsed((directory / "progress.ndjson").read_bytes().split(b"\n")[:-1])[0]


@pytest.mark.parametrize(
    ("point", "second_lap", "rest"),
    [
        ("loop_restart@after", [], LAP),
        ("restart@rename", [], LAP),
        ("restart@after", [], LAP),
        ("stage_attempt_end@after:8", ["work", "again", "again"], ["again", "check"]),
    ],
    ids=["told, not made", "made, not named", "named, not begun", "in the second iteration of its loop"],
)
def test_a_run_killed_in_a_restart_goes_on_there(place: Place, point: str, second_lap: list[str], rest: list[str]) -> None:
    """Nothing of the first lap runs again, the restart is made once, and a loop goes on counting.

    The killed start has its end in every directory that it had come to, and the last start has it in both.
    """
    run_id = re.sub("[^a-z0-9]", "-", point)
    assert killed(place.run(run_id, KILROY_FAILPOINT=point))
    assert place.executions(run_id) == [*LAP, *second_lap]

    done = place.resume(run_id)

    assert done.returncode == 0, done.stderr
    assert place.executions(run_id) == [*LAP, *second_lap, *rest]
    run = place.directory(run_id)
    restart = run / "restart-1"
    assert not (run / "restart-2").exists()
    assert not list(run.glob(".tmp-restart-*"))
    assert (restart / "final.json").read_bytes() == (run / "final.json").read_bytes()
    assert json.loads((run / "final.json").read_bytes())["start"] == 2
    for directory in (run, restart):
        lines = events_in(directory)
        assert lines[-1]["event"] == "run_completed"
        starts = [line["start"] for line in lines if line["event"] in TERMINAL]
        assert starts in ([1, 2], [2] if directory == restart else [])
    iterations = [line["iteration"] for line in events_in(restart) if line["event"] == "loop_iteration"]
    assert iterations == [1]
    assert json.loads((restart / "checkpoint.json").read_bytes())["extra"]["restart_count"] == 1
    commits = [subject.partition(": ")[2].partition(" ")[0] for subject in place.commits(run_id)[1:]]
    assert commits == ["start", *LAP, *LAP, "done"]
