"""A run that is killed anywhere between two writes is resumed to the same end, and no finished stage runs twice."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from subprocess import CompletedProcess

import pytest
from real_prefect import Prefect
from sweep_run import TERMINAL, TOOLS, Place, killed, make_place, parsed

POINTS = int(os.environ.get("KILROY_FAULT_POINTS", "12"))
AT_ONCE = int(os.environ.get("KILROY_FAULT_JOBS", "2"))
KILLS_PER_RUN = 3
NOTHING_BEGUN = ("no run '", "holds no run that can be resumed")
"""What `kilroy resume` says of a run that was killed before it was one."""
KILLED_RESUMES = (
    "run.lock.json@after",
    "run_resumed@torn",
    "manifest.json@rename",
    "restore@worktree",
    "visit@moving",
    "checkpoint.json@before",
)
"""Failpoints on the way of a second start, in their order."""


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


@dataclass(frozen=True, order=True)
class Point:
    """A failpoint that the run comes to. ``at`` is its place among all of them, from 0."""

    at: int
    name: str


class Reference:
    """What a run does when nothing happens to it."""

    def __init__(self, place: Place, reached: list[str]) -> None:
        self.reached = [re.sub(r"^process-\d+", "process-*", name) for name in reached]
        self.executions = place.executions("reference")
        self.completed = place.completed("reference")
        self.commits = place.commits("reference")

    def points(self, count: int) -> list[Point]:
        """``count`` failpoints: every name is as likely, and its occurrences are taken from all over the run."""
        places: dict[str, list[int]] = {}
        for at, name in enumerate(self.reached):
            places.setdefault(name, []).append(at)
        names = list(places)
        chosen: dict[Point, None] = {}
        for turn in range(count):
            name = names[turn * len(names) // count] if count < len(names) else names[turn % len(names)]
            chosen[Point(places[name][7 * turn % len(places[name])], name)] = None
        return sorted(chosen)

    def settings(self, kills: Sequence[Point]) -> list[str]:
        """The failpoints of a run that is killed at the first point and, resumed, at each of the others."""
        since, settings = 0, list[str]()
        for kill in kills:
            settings.append(f"{kill.name}:{self.reached[since : kill.at + 1].count(kill.name)}")
            since = kill.at + 1
        return settings

    def executions_of(self, completed: list[str]) -> list[str]:
        """What the tools of the first ``completed`` visits did; the flaky one is executed twice per visit."""
        assert completed == self.completed[: len(completed)]
        return [node for node in completed if node in TOOLS for _ in range(2 if node == "flaky" else 1)]


class Watched:
    """A run whose starts are killed one after the other. Raises AssertionError with what was not so."""

    def __init__(self, place: Place, reference: Reference, run_id: str) -> None:
        self.run_id = run_id
        self._place = place
        self._reference = reference
        self._torn = 0

    def kill_at(self, setting: str) -> None:
        """Starts the run, or goes on with it, until it comes to this failpoint."""
        before, left = self._so_far()
        done = self._start(KILROY_FAILPOINT=setting)
        assert killed(done), f"{setting}: was not killed but ended with {done.returncode}: {done.stderr[-400:]}"
        since = self._place.executions(self.run_id)[len(before) :]
        assert since == left[: len(since)], setting
        assert parsed(self._place.lines(self.run_id))[1] <= self._torn, setting
        self._torn += "@torn" in setting

    def finish(self) -> None:
        """Goes on to the end, where everything is as if nothing had happened."""
        before, left = self._so_far()
        succeeded = (self._place.directory(self.run_id) / "conclusion.json").exists()
        done = self._start()
        assert done.returncode == 0 or (succeeded and "has succeeded" in done.stderr), done.stderr[-400:]
        assert self._place.executions(self.run_id) == before + left
        assert self._place.commits(self.run_id) == self._reference.commits
        assert_ended(self._place, self.run_id, torn=self._torn)

    def _so_far(self) -> tuple[list[str], list[str]]:
        """What the tools have done, and what those of the stages that are not in the checkpoint have to do."""
        finished = self._reference.executions_of(self._place.completed(self.run_id))
        return self._place.executions(self.run_id), self._reference.executions[len(finished) :]

    def _start(self, **environment: str) -> CompletedProcess[str]:
        if not self._place.directory(self.run_id).exists():
            return self._place.run(self.run_id, **environment)
        done = self._place.resume(self.run_id, **environment)
        if any(text in done.stderr for text in NOTHING_BEGUN):
            assert self._place.executions(self.run_id) == []
            return self._place.run(self.run_id, **environment)
        return done


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
    """SIGKILL of the flow's process at places all over its writes, then `kilroy resume`, which is killed further on.

    Each run succeeds; the tools of stages in the checkpoint have run once per visit, the interrupted stage again and the rest
    as if nothing had happened; the branch has the same commits; each start has one terminal line.
    """
    points = reference.points(POINTS)
    runs = -(-len(points) // KILLS_PER_RUN)
    # The first points come before the first stage and the last ones after the walk: none of them has a second one beside it.
    kills = [points[number::runs] for number in range(runs)]
    failures = dict(zip(range(runs), failures_of(place, reference, kills), strict=True))
    survived = sum(len(kills[number]) for number, text in failures.items() if not text)
    with capsys.disabled():
        print(f"\n{survived}/{len(points)} SIGKILLs survived by {runs} runs")
    failed = "\n\n".join(f"{[point.name for point in kills[number]]}: {text}" for number, text in failures.items() if text)
    assert not failed, failed


def failures_of(place: Place, reference: Reference, kills: list[list[Point]]) -> Iterator[str]:
    """What went wrong with each run, empty where nothing did."""

    def hold(numbered: tuple[int, list[Point]]) -> str:
        run = Watched(place, reference, f"p{numbered[0]:03}")
        try:
            for setting in reference.settings(numbered[1]):
                run.kill_at(setting)
            run.finish()
        except AssertionError as failure:
            return str(failure) or "failed"
        return ""

    with ThreadPoolExecutor(AT_ONCE) as threads:
        yield from threads.map(hold, enumerate(kills))


def test_a_resume_that_is_killed_is_resumed(place: Place, reference: Reference) -> None:
    """The same for six starts on end that are killed before they have finished a stage: the last one goes on, and all have
    their ends. The worktree is broken each time, so that it has to be made anew."""
    run = Watched(place, reference, "again")
    run.kill_at("commit@staged:5")
    for point in KILLED_RESUMES:
        (place.directory("again") / "worktree" / ".git").unlink(missing_ok=True)
        run.kill_at(point)
    run.finish()
    assert not (place.directory("again") / "worktree").exists()
