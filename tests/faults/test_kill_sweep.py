"""A run that is killed anywhere is resumed to the same end: the work of every stage is there once, child pipelines and branches
included, and no finished stage runs twice."""

from __future__ import annotations

import json
import os
import random
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from subprocess import CompletedProcess

import pytest
from real_prefect import Prefect
from sweep_run import EXECUTIONS, FILES, TERMINAL, Place, killed, make_place, parsed

POINTS = int(os.environ.get("KILROY_FAULT_POINTS", "6"))
AT_ONCE = int(os.environ.get("KILROY_FAULT_JOBS", "2"))
SEED = int(os.environ.get("KILROY_FAULT_SEED", "1"))
KILLS_PER_RUN = 3
FROM_OUTSIDE = "from outside"
"""Every third kill is no failpoint's, but comes from outside at a random place of the run."""
NOTHING_BEGUN = ("no run '", "holds no run that can be resumed")
"""What `kilroy resume` says of a run that was killed before it was one."""
TIMED = ("manager_loop_cycle@", "stage_heartbeat@", "branch_heartbeat@")
"""How often a run comes to these depends on the clock."""
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
    assert Counter(place.executions("reference")) == EXECUTIONS
    assert place.files("reference") == FILES
    return Reference(place, log.read_text().splitlines())


@dataclass(frozen=True, order=True)
class Point:
    """A place that the run comes to, by its number among all of them, from 0. ``name`` is the failpoint there, or tells that
    the kill comes from outside."""

    at: int
    name: str


class Reference:
    """What a run does when nothing happens to it."""

    def __init__(self, place: Place, reached: list[str]) -> None:
        self.reached = [re.sub(r"^process-\d+", "process-*", name) for name in reached]
        self.commits = sorted(place.commits("reference"))
        self.trunk = place.commits("reference", "--first-parent")

    def points(self, count: int) -> list[Point]:
        """``count`` places: every name is as likely, and its occurrences are taken from all over the run. A third of them are
        places of any name, at which the kill comes from outside."""
        chance = random.Random(SEED)
        outside = {Point(at, FROM_OUTSIDE) for at in chance.sample(range(len(self.reached)), count // 3)}
        places: dict[str, list[int]] = {}
        for at, name in enumerate(self.reached):
            if not name.startswith(TIMED):
                places.setdefault(name, []).append(at)
        names, inside = list(places), count - len(outside)
        chosen: dict[Point, None] = {}
        for turn in range(inside):
            name = names[turn * len(names) // inside] if inside < len(names) else names[turn % len(names)]
            chosen[Point(chance.choice(places[name]), name)] = None
        return sorted({*chosen, *outside})

    def settings(self, kills: Sequence[Point]) -> list[str]:
        """Where a run is killed at the first point and, resumed, at each of the others: a name, and the how manieth such place.

        Branches race, so a resumed run may have less of a name before it than this one had; it is asked for half of them.
        """
        since, settings = 0, list[str]()
        for number, kill in enumerate(kills):
            between = self.reached[since : kill.at + 1]
            count = len(between) if kill.name == FROM_OUTSIDE else between.count(kill.name)
            settings.append(f"{kill.name}:{max(1, count // 2 if number else count)}")
            since = kill.at + 1
        return settings


class Watched:
    """A run whose starts are killed one after the other. Raises AssertionError with what was not so."""

    def __init__(self, place: Place, reference: Reference, run_id: str) -> None:
        self.run_id = run_id
        self._place = place
        self._reference = reference
        self._torn = 0

    def kill_at(self, setting: str) -> bool:
        """Starts the run, or goes on with it, until it comes to this place. False where it came to its end without."""
        before, left = self._so_far()
        done = self._start(setting)
        self._place.settle(self.run_id)
        if not killed(done):
            assert self._has_succeeded(done), (
                f"{setting}: was not killed but ended with {done.returncode}: {done.stderr[-600:]}"
            )
            return False
        since = Counter(self._place.executions(self.run_id)) - before
        assert since <= left, f"{setting}: again {since - left}"
        # A kill from outside may tear a line too.
        self._torn += "@torn" in setting or setting.startswith(FROM_OUTSIDE)
        assert parsed(self._place.lines(self.run_id))[1] <= self._torn, setting
        return True

    def finish(self) -> None:
        """Goes on to the end, where everything is as if nothing had happened."""
        before, left = self._so_far()
        done = self._start()
        assert self._has_succeeded(done), done.stderr[-600:]
        assert Counter(self._place.executions(self.run_id)) == before + left
        assert self._place.files(self.run_id) == FILES
        assert self._place.commits(self.run_id, "--first-parent") == self._reference.trunk
        assert sorted(self._place.commits(self.run_id)) == self._reference.commits
        assert_ended(self._place, self.run_id, torn=self._torn)

    def _has_succeeded(self, done: CompletedProcess[str]) -> bool:
        """Whether the start came to the run's end, or found that an earlier one had."""
        concluded = (self._place.directory(self.run_id) / "conclusion.json").exists()
        return done.returncode == 0 or (concluded and "has succeeded" in done.stderr)

    def _so_far(self) -> tuple[Counter[str], Counter[str]]:
        """What the tools have done, and what those of the visits that no checkpoint holds have to do."""
        finished = self._place.finished(self.run_id)
        done = {node: finished[node] * (2 if node == "flaky" else 1) for node in EXECUTIONS}
        return Counter(self._place.executions(self.run_id)), EXECUTIONS - Counter(done)

    def _start(self, setting: str = "") -> CompletedProcess[str]:
        if not self._place.directory(self.run_id).exists():
            return self._call("run", str(self._place.folder / "sweep.dot"), "--run-id", self.run_id, setting=setting)
        done = self._call("resume", self.run_id, setting=setting)
        if any(text in done.stderr for text in NOTHING_BEGUN):
            assert self._place.executions(self.run_id) == []
            return self._call("run", str(self._place.folder / "sweep.dot"), "--run-id", self.run_id, setting=setting)
        return done

    def _call(self, *arguments: str, setting: str) -> CompletedProcess[str]:
        name, _, count = setting.partition(":")
        if name == FROM_OUTSIDE:
            return self._place.kilroy_killed(self.run_id, *arguments, places=int(count))
        return self._place.kilroy(self.run_id, *arguments, **({"KILROY_FAILPOINT": setting} if setting else {}))


def assert_ended(place: Place, run_id: str, *, torn: int) -> None:
    """The contract of the end: final.json says success, one terminal line per start, the last line is the last start's. The
    child pipelines have succeeded too."""
    events, broken = parsed(place.lines(run_id))
    final = json.loads((place.directory(run_id) / "final.json").read_bytes())
    terminal = [event for event in events if event["event"] in TERMINAL]
    assert broken <= torn
    assert final["status"] == "success"
    assert [event["start"] for event in terminal] == list(range(1, final["start"] + 1))
    assert events[-1] == terminal[-1]
    assert events[-1]["event"] == "run_completed"
    assert place.completed(run_id)[-1] == "done"
    for node in ("sub", "boss"):
        assert json.loads((place.directory(run_id) / node / "child" / "final.json").read_bytes())["status"] == "success"


@pytest.mark.timeout(3600)
def test_a_killed_run_is_resumed_and_all_its_work_is_there_once(
    place: Place, reference: Reference, capsys: pytest.CaptureFixture[str]
) -> None:
    """SIGKILL of the flow's process at places all over the run, then `kilroy resume`, which is killed further on.

    Each run succeeds. Tools of visits in a checkpoint (the run's, a child pipeline's, a branch's) do not run again, all others
    do. The run's branch has the same commits as if nothing had happened, and the work of each stage once per visit. Each start
    has one terminal line.
    """
    points = reference.points(POINTS)
    runs = -(-len(points) // KILLS_PER_RUN)
    # The first points come before the first stage and the last ones after the walk: none of them has a second one beside it.
    kills = [points[number::runs] for number in range(runs)]
    answers = list(answers_of(place, reference, kills))
    with capsys.disabled():
        done, missed = sum(answer.killed for answer in answers), sum(answer.missed for answer in answers)
        sound = sum(not answer.failure for answer in answers)
        print(f"\n{done} SIGKILLs at {len(points)} points ({missed} not come to), {sound}/{runs} runs with all their work")
    failed = [f"{[point.name for point in kills[n]]}: {answer.failure}" for n, answer in enumerate(answers) if answer.failure]
    assert not failed, "\n\n".join(failed)
    assert missed <= len(points) // 10


@dataclass
class Answer:
    """What came of one run: how many of its kills took place, how many points it never came to, and what went wrong."""

    killed: int = 0
    missed: int = 0
    failure: str = ""


def answers_of(place: Place, reference: Reference, kills: list[list[Point]]) -> Iterator[Answer]:
    def hold(numbered: tuple[int, list[Point]]) -> Answer:
        run, answer = Watched(place, reference, f"p{numbered[0]:03}"), Answer()
        try:
            for setting in reference.settings(numbered[1]):
                came_to = run.kill_at(setting)
                answer.killed, answer.missed = answer.killed + came_to, answer.missed + (not came_to)
            run.finish()
        except AssertionError as failure:
            answer.failure = str(failure) or "failed"
        return answer

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
