"""A fan-out that is killed anywhere goes on where each branch was: no finished stage of any branch runs twice."""

from __future__ import annotations

import json
import re

import pytest
from real_prefect import Prefect
from sweep_run import TERMINAL, Place, killed, make_place, parsed

PIPELINE = """digraph fan {
  node [shape=parallelogram]
  start [shape=Mdiamond]  exit [shape=Msquare]
  before [tool_command="echo before >> $SIDE; echo x > before.txt"]
  p [shape=component]  j [shape=tripleoctagon]
  a1 [tool_command="echo a1 >> $SIDE; cp before.txt a1.txt"]
  a2 [tool_command="echo a2 >> $SIDE; cp a1.txt a2.txt"]
  b1 [tool_command="echo b1 >> $SIDE; echo b > b1.txt"]
  b2 [tool_command="echo b2 >> $SIDE; cp b1.txt b2.txt"]
  q [shape=component]  r [shape=tripleoctagon]
  c1 [tool_command="echo c1 >> $SIDE; echo c > c1.txt"]
  c2 [tool_command="echo c2 >> $SIDE; echo c > c2.txt"]
  after [tool_command="echo after >> $SIDE; cat a2.txt before.txt"]
  start -> before -> p
  p -> a1 -> a2 -> j
  p -> b1 -> b2 -> j
  p -> q  q -> c1 -> r  q -> c2 -> r  r -> j
  j -> after [condition="outcome=success"]
  after -> exit [condition="outcome=success"]
}
"""
TOOLS = {"before", "a1", "a2", "b1", "b2", "c1", "c2", "after"}
POINTS = [
    "fan_out.json@rename",
    "branch@added:2",
    "branch@after:3",
    "stage_attempt_end@after:4",
    "commit@staged:7",
    "checkpoint.json@rename:6",
    "result.json@before",
    "result.json@after:2",
    "result.json@after:5",
    "branch_progress@torn:20",
    "parallel_results.json@after:2",
    "merge@before",
    "merge@after:2",
]
"""All over a fan-out's writes. Branches race, so the same point comes at another moment each time."""

QUICK = ("checkpoint.json@rename:6", "result.json@after:2")


@pytest.fixture(scope="module")
def place(prefect: Prefect, tmp_path_factory: pytest.TempPathFactory) -> Place:
    made = make_place(tmp_path_factory.mktemp("fan"), prefect.environment)
    (made.folder / "sweep.dot").write_text(PIPELINE)
    return made


@pytest.mark.parametrize("point", [p if p in QUICK else pytest.param(p, marks=pytest.mark.slow) for p in POINTS])
def test_a_killed_fan_out_is_resumed_and_no_finished_stage_runs_again(place: Place, point: str) -> None:
    """SIGKILL of the flow's process, then `kilroy resume`: success, and whatever was in a branch's checkpoint ran once."""
    run_id = re.sub("[^a-z0-9]", "-", point)
    done = place.run(run_id, KILROY_FAILPOINT=point)
    assert killed(done), f"was not killed but ended with {done.returncode}: {done.stderr[-400:]}"
    before, finished = place.executions(run_id), place.finished(run_id).keys() & TOOLS

    resumed = place.resume(run_id)

    assert resumed.returncode == 0, resumed.stderr[-800:]
    executions = place.executions(run_id)
    assert set(executions) == TOOLS
    for node in TOOLS:
        again = executions.count(node) - before.count(node)
        # A tool that the dead process had just started may still have left its trace after we looked.
        assert again == 0 if node in finished else 1 <= again <= 2 - before.count(node), (
            f"{node}: {again} {finished=} {before=}"
        )
    assert_ended(place, run_id, torn=int("@torn" in point))
    assert commits_since_fan_out(place, run_id) == ["p", "a1", "a2", "j", "after", "exit"]


def assert_ended(place: Place, run_id: str, *, torn: int) -> None:
    """One terminal line per start, the last line is the last start's and agrees with final.json."""
    events, broken = parsed(place.lines(run_id))
    final = json.loads((place.directory(run_id) / "final.json").read_bytes())
    terminal = [event for event in events if event["event"] in TERMINAL]
    assert broken <= torn
    assert [event["start"] for event in terminal] == list(range(1, final["start"] + 1))
    assert events[-1] == terminal[-1]
    assert (final["status"], events[-1]["event"]) == ("success", "run_completed")


def commits_since_fan_out(place: Place, run_id: str) -> list[str]:
    subjects = [subject.removeprefix("attractor: ").partition(" ")[0] for subject in place.commits(run_id)]
    return subjects[subjects.index("p") :]
