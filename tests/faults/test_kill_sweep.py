"""A run that is killed anywhere between two writes is resumed to the same end, and no finished stage runs twice."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from real_prefect import Prefect
from sweep_run import TERMINAL, TOOLS, Place, killed, make_place, parsed

POINTS = int(os.environ.get("KILROY_FAULT_POINTS", "12"))
AT_ONCE = int(os.environ.get("KILROY_FAULT_JOBS", "2"))
NOTHING_BEGUN = ("no run '", "holds no run that can be resumed")
"""What `kilroy resume` says of a run that was killed before it was one."""


@pytest.fixture(scope="module")
def place(prefect: Prefect, tmp_path_factory: pytest.TempPathFactory) -> Place:
    return make_place(tmp_path_factory.mktemp("sweep"), prefect.environment)


@pytest.fixture(scope="module")
def reference(place: Place) -> Reference:
    """The run that nobody kills, and every failpoint that its process comes to."""
    log = place.folder / "failpoints.log"
    done = place.run("reference", KILROY_FAILPOINT_LOG=str(log))
    assert done.returncode == 0, done.stderr
    return Reference(place, log.read_text().splitlines())


class Reference:
    """What a run does when nothing happens to it."""

    def __init__(self, place: Place, reached: list[str]) -> None:
        self.reached = [re.sub(r"^process-\d+", "process-*", name) for name in reached]
        self.executions = place.executions("reference")
        self.completed = place.completed("reference")
        self.commits = place.commits("reference")

    def points(self, count: int) -> list[str]:
        """``count`` failpoints: every name is as likely, and its occurrences are taken from all over the run."""
        times: dict[str, int] = {}
        for name in self.reached:
            times[name] = times.get(name, 0) + 1
        names = list(times)
        chosen: dict[str, None] = {}
        for turn in range(count):
            name = names[turn * len(names) // count] if count < len(names) else names[turn % len(names)]
            chosen[f"{name}:{1 + (7 * turn) % times[name]}"] = None
        return list(chosen)

    def executions_of(self, completed: list[str]) -> list[str]:
        """What the tools of the first ``completed`` visits did; the flaky one is executed twice per visit."""
        assert completed == self.completed[: len(completed)]
        return [node for node in completed if node in TOOLS for _ in range(2 if node == "flaky" else 1)]


def kill_and_resume(place: Place, reference: Reference, run_id: str, point: str) -> None:
    """Holds one point of the sweep; raises AssertionError with what was not so."""
    done = place.run(run_id, KILROY_FAILPOINT=point)
    assert killed(done), f"was not killed but ended with {done.returncode}: {done.stderr[-400:]}"
    before, finished = place.executions(run_id), reference.executions_of(place.completed(run_id))
    succeeded = (place.directory(run_id) / "conclusion.json").exists()
    assert parsed(place.lines(run_id))[1] == 0

    resumed = place.resume(run_id)
    if any(text in resumed.stderr for text in NOTHING_BEGUN):
        assert before == []
        resumed = place.run(run_id)
    if succeeded:
        assert resumed.returncode == 0 or "has succeeded" in resumed.stderr, resumed.stderr[-400:]
    else:
        assert resumed.returncode == 0, resumed.stderr[-400:]

    assert before[: len(finished)] == finished
    assert place.executions(run_id) == before + reference.executions[len(finished) :]
    assert place.commits(run_id) == reference.commits
    assert_ended(place, run_id, torn=int("@torn" in point))


def assert_ended(place: Place, run_id: str, *, torn: int) -> None:
    """The contract of the end: final.json says success, one terminal line per start, the last line is the last start's."""
    events, broken = parsed(place.lines(run_id))
    final = json.loads((place.directory(run_id) / "final.json").read_bytes())
    terminal = [event for event in events if event["event"] in TERMINAL]
    assert broken <= torn
    assert final["status"] == "success"
    assert [event["start"] for event in terminal] == list(range(1, final["start"] + 1))
    assert events[-1] == terminal[-1]
    assert events[-1]["event"] == "run_completed"
    assert place.completed(run_id)[-1] == "done"


@pytest.mark.timeout(3600)
def test_a_killed_run_is_resumed_and_no_finished_stage_runs_again(
    place: Place, reference: Reference, capsys: pytest.CaptureFixture[str]
) -> None:
    """SIGKILL of the flow's process at places all over its writes, then `kilroy resume`.

    Each run succeeds; the tools of stages in the checkpoint have run once per visit, the interrupted stage again and the rest
    as if nothing had happened; the branch has the same commits; each start has one terminal line.
    """
    points = reference.points(POINTS)
    failures = dict(zip(points, failures_of(place, reference, points), strict=True))
    with capsys.disabled():
        print(f"\n{sum(not text for text in failures.values())}/{len(points)} runs survived a SIGKILL")
    failed = "\n\n".join(f"{point}: {text}" for point, text in failures.items() if text)
    assert not failed, failed


def failures_of(place: Place, reference: Reference, points: list[str]) -> Iterator[str]:
    """What went wrong at each point, empty where nothing did."""

    def hold(numbered: tuple[int, str]) -> str:
        try:
            kill_and_resume(place, reference, f"p{numbered[0]:03}", numbered[1])
        except AssertionError as failure:
            return str(failure) or "failed"
        return ""

    with ThreadPoolExecutor(AT_ONCE) as threads:
        yield from threads.map(hold, enumerate(points))


@pytest.mark.parametrize(
    "point",
    [
        "run.lock.json@after",
        "run_resumed@torn",
        "manifest.json@rename",
        "restore@worktree",
        "visit@moving",
        "checkpoint.json@before",
    ],
)
def test_a_resume_that_is_killed_is_resumed(place: Place, reference: Reference, point: str) -> None:
    """The same for the second start: the third one goes on, and the first two have their ends."""
    run_id = f"again-{re.sub('[^a-z]', '-', point)}"
    assert killed(place.run(run_id, KILROY_FAILPOINT="commit@staged:5"))
    (place.directory(run_id) / "worktree" / ".git").unlink()  # so that the worktree has to be made anew

    assert killed(place.resume(run_id, KILROY_FAILPOINT=point))
    before, finished = place.executions(run_id), reference.executions_of(place.completed(run_id))
    done = place.resume(run_id)

    assert done.returncode == 0, done.stderr
    assert place.executions(run_id) == before + reference.executions[len(finished) :]
    assert place.commits(run_id) == reference.commits
    assert_ended(place, run_id, torn=1)
    assert not Path(place.directory(run_id) / "worktree").exists()
