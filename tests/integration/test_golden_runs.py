"""Recorded runs of Kilroy, carried out again by this engine: real tools, real git, a real Prefect server."""

from __future__ import annotations

import itertools
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest
from conftest import ROOT, Prefect, eventually
from engine_process import Answer, Request, answers
from golden import (
    CASES,
    GOLDEN,
    GRAPH_TOPIC,
    OWN_EVENTS,
    OWN_FINAL_KEYS,
    REWRITES,
    Account,
    Event,
    kilroys_account,
    our_account,
    recorded,
    rewritten,
    source_of,
)

KILROY = [sys.executable, "-m", "kilroy_engine.cli.main"]
NO_GIT, DIRTY, PUSHED, STOPPED = "02b-linear3-nogit", "14a-git-dirty-tree", "14d-git-push", "10e-stop"
GIVEN, MISSING = "20a-inputs-given", "20b-inputs-missing"
BY_COMMAND = (STOPPED, MISSING)
"""Runs that are about the command; the others go through the same flow, many in one process."""

pytestmark = pytest.mark.timeout(600)  # the first test waits for all runs; a machine with other work takes longer


@dataclass(frozen=True)
class Difference:
    """Where a run of ours leaves Kilroy's, after the rewrites: the first event on each side, then our end.

    ``topic`` is the row of the conformance page that says why.
    """

    topic: str
    kilroys: Event
    ours: Event
    exit_code: int
    completed: tuple[str, ...]


def _edge(source: str, target: str, method: str, condition: str = "") -> Event:
    event = {"event": "edge_selected", "from_node": source, "to_node": target, "selection_method": method}
    return event | {"hop_source": "edge_selection"} | ({"condition": condition} if condition else {})


def _failed(reason: str) -> Event:
    return {"event": "run_failed", "status": "fail", "reason": reason}


_BRANCH = {"event": "branch_progress", "branch_key": "x", "branch_event": "branch_setup_start"}
_STOPPED = {"event": "stage_attempt_end", "node_id": "slow", "attempt": 1, "max": 4, "status": "fail"}
DIFFERENCES = {
    "03c-fail-only-success-edge": Difference(
        "no condition holds and no plain edge",
        _edge("a", "exit", "fallback", "outcome=success"),
        _failed("exit status 3"),
        1,
        ("start", "a"),
    ),
    "06b-retry-exhausted": Difference(
        "no condition holds and no plain edge",
        _edge("a", "exit", "fallback", "outcome=success"),
        _failed("exit status 1"),
        1,
        ("start", "a"),
    ),
    "07b-goal-gate-retry-target-node": Difference(
        "`retry_target` of a failed stage",
        _edge("a", "b", "only_edge"),
        {"event": "no_matching_fail_edge_fallback", "node_id": "a", "failure_reason": "exit status 1"},
        0,
        ("start", "w", "a", "w", "a", "b", "exit"),
    ),
    STOPPED: Difference(
        "`kilroy stop`",
        _STOPPED | {"failure_reason": "stopped by signal terminated"},
        _STOPPED | {"failure_reason": "canceled: by kilroy stop"},
        130,
        ("start", "a"),
    ),
    "17c-tool-status-fail-but-exit0": Difference(
        "several unconditional edges", _BRANCH, _edge("a", "x", "lexical_tiebreak"), 0, ("start", "a", "x", "exit")
    ),
    "19a-weights": Difference(
        "several unconditional edges", _BRANCH, _edge("s", "y", "weight"), 0, ("start", "s", "y", "exit")
    ),
}


class Place:
    """Where the cases run: a repository for each, as the recorded runs had, and one folder for the run directories."""

    def __init__(self, folder: Path, prefect: Prefect) -> None:
        self.folder = folder
        self.environment = prefect.environment | {"KILROY_RUNS_ROOT": str(folder / "runs")}
        (folder / "runs").mkdir()

    def logs_root(self, case: str) -> Path:
        return self.folder / "runs" / case

    def repository(self, case: str) -> Path:
        """A repository with one commit, and whatever the case is about."""
        path = self.folder / case
        path.mkdir()
        (path / "README.md").write_text("A project.\n", encoding="utf-8")
        if case == PUSHED:
            self._git("init", "--quiet", "--bare", str(self.folder / "origin.git"))
        for command in (("init", "--quiet", "--initial-branch=main"), ("add", "--all"), ("commit", "--quiet", "--message=one")):
            self._git(*command, inside=path)
        if case == PUSHED:
            self._git("remote", "add", "origin", str(self.folder / "origin.git"), inside=path)
        if case == DIRTY:
            (path / "README.md").write_text("Changed.\n", encoding="utf-8")
            (path / "a.txt").write_text("never committed\n", encoding="utf-8")
        return path

    def request(self, case: str) -> Request:
        """The case as one of many runs in a process."""
        repository = self.repository(case)
        options = {"logs_root": str(self.logs_root(case)), "workspace": "plain" if case == NO_GIT else "git"}
        config = GOLDEN / case / "run.yaml"
        if config.exists():
            options["config"] = str(config)
        inputs = {"name": "Ada"} if case == GIVEN else {}
        repo = "" if case == NO_GIT else str(repository)
        return Request(name=case, graph=source_of(case), inputs=inputs, repo=repo, options=options)

    def command(self, case: str) -> subprocess.Popen[str]:
        """The case as a user calls it, at work."""
        repository = self.repository(case)
        (self.folder / f"{case}.dot").write_text(source_of(case), encoding="utf-8")
        return subprocess.Popen(
            [*KILROY, "run", str(self.folder / f"{case}.dot"), "--logs-root", str(self.logs_root(case))],
            cwd=repository,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )

    def later(self, *arguments: str) -> int:
        """Exit code of another command on the way."""
        done = subprocess.run([*KILROY, *arguments], env=self.environment, capture_output=True, timeout=90, check=False)
        return done.returncode

    def _git(self, *arguments: str, inside: Path | None = None) -> None:
        subprocess.run(["git", *arguments], cwd=inside or self.folder, env=self.environment, check=True)


@dataclass(frozen=True)
class Runs:
    """All cases, carried out. ``later_codes`` are the exit codes of stop, stop again and status."""

    place: Place
    answers: dict[str, Answer]
    later_codes: list[int]
    refusal: str

    def account(self, case: str) -> Account:
        answer = self.answers[case]
        assert not answer.refusal
        return our_account(case, self.place.logs_root(case), answer.exit_code)


@pytest.fixture(scope="module")
def runs(prefect: Prefect, tmp_path_factory: pytest.TempPathFactory) -> Runs:
    """Every case once: two processes share the bulk, commands run beside them."""
    place = Place(tmp_path_factory.mktemp("golden"), prefect)
    requests = [place.request(case) for case in CASES if case not in BY_COMMAND]
    with ThreadPoolExecutor() as pool:
        bulks = [
            pool.submit(answers, half, environment=place.environment, folder=place.folder, within_s=500)
            for half in (requests[::2], requests[1::2])
        ]
        stopped, later_codes = _stop_it(place)
        refused, refusal = _miss_an_input(place)
        done = [stopped, refused, *itertools.chain.from_iterable(bulk.result() for bulk in bulks)]
    return Runs(place, {answer.name: answer for answer in done}, later_codes, refusal)


def _stop_it(place: Place) -> tuple[Answer, list[int]]:
    run = place.logs_root(STOPPED)
    with place.command(STOPPED) as process:
        try:
            log = run / "slow" / "stdout.log"
            eventually(
                lambda: process.poll() is not None or (log.exists() and "begin" in log.read_text()),
                within_s=120,
                what="the stage to be stopped",
            )
            assert process.poll() is None, process.communicate()[1]
            codes = [place.later(command, str(run)) for command in ("stop", "stop", "status")]
            return Answer(name=STOPPED, exit_code=process.wait(timeout=60), logs_root=str(run)), codes
        finally:
            process.kill()


def _miss_an_input(place: Place) -> tuple[Answer, str]:
    with place.command(MISSING) as process:
        _, said = process.communicate(timeout=90)
    return Answer(name=MISSING, exit_code=process.returncode), said


@pytest.mark.parametrize("case", [case for case in CASES if case not in (*DIFFERENCES, MISSING)])
def test_a_recorded_run_comes_to_the_same(runs: Runs, case: str) -> None:
    """Exit code, final status and reason, nodes, retries, stage statuses, and every stage and routing event in its order."""
    ours, kilroys = rewritten(runs.account(case), kilroys_account(case))
    assert ours.events == kilroys.events
    assert ours == kilroys


@pytest.mark.parametrize("case", DIFFERENCES)
def test_a_run_leaves_kilroys_way_only_where_it_is_declared(runs: Runs, case: str) -> None:
    """All is the same up to one event, which the row of the conformance page explains; then the run ends as the row says."""
    ours, kilroys = rewritten(runs.account(case), kilroys_account(case))
    pairs = itertools.zip_longest(ours.events, kilroys.events)
    declared = DIFFERENCES[case]
    assert next(pair for pair in pairs if pair[0] != pair[1]) == (declared.ours, declared.kilroys)
    assert (ours.exit_code, ours.completed) == (declared.exit_code, declared.completed)


def test_a_run_without_its_inputs_is_refused_in_the_same_words(runs: Runs) -> None:
    """Exit code and message as recorded, ours with the way to mend it, and no run directory."""
    record = recorded(MISSING)
    assert runs.answers[MISSING].exit_code == record["exit_code"]
    assert record["stderr"][0] in runs.refusal
    assert not runs.place.logs_root(MISSING).exists()


def test_stopping_twice_answers_as_kilroy_does(runs: Runs) -> None:
    """The first stop succeeds, the second finds nothing to stop, status works on."""
    assert runs.later_codes == recorded(STOPPED)["later_exit_codes"]


def test_what_was_pushed_is_what_the_run_ended_with(runs: Runs) -> None:
    """``git_push_ok`` is true: the remote's branch is at the final commit."""
    final = (runs.place.logs_root(PUSHED) / "final.json").read_text(encoding="utf-8")
    heads = (runs.place.folder / "origin.git").rglob("refs/heads/**/*")
    assert [head for head in heads if head.is_file() and head.read_text(encoding="utf-8").strip() in final]


def test_uncommitted_work_is_left_alone(runs: Runs) -> None:
    """The dirty case: the user's files stay as they were, and the stage's file of the same name is on the run's branch."""
    repository = runs.place.folder / DIRTY
    assert (repository / "README.md").read_text(encoding="utf-8") == "Changed.\n"
    assert (repository / "a.txt").read_text(encoding="utf-8") == "never committed\n"


def test_every_difference_is_a_row_of_the_conformance_page() -> None:
    """Rewrites and differences name a topic that is there; the row of our own events and keys names each of them."""
    page = (ROOT / "docs" / "reference" / "conformance.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| (.+?) \| (.+?) \|", page, re.MULTILINE))
    topics = {GRAPH_TOPIC, *(rewrite.topic for rewrite in REWRITES), *(declared.topic for declared in DIFFERENCES.values())}
    assert topics <= set(rows)
    assert [name for name in OWN_EVENTS if f"`{name}`" not in rows["more events"]] == []
    assert [key for key in OWN_FINAL_KEYS if f"`{key}`" not in rows["keys of `final.json`"]] == []


def test_no_case_is_left_out(runs: Runs, capsys: pytest.CaptureFixture[str]) -> None:
    """Each case agrees or differs where it is declared; prints how many do."""
    ended = [case for case in CASES if case != MISSING and not runs.answers[case].refusal]
    compared = {case: rewritten(runs.account(case), kilroys_account(case)) for case in ended}
    same = [case for case, (ours, kilroys) in compared.items() if ours == kilroys]
    agreeing = len(same) + 1  # the refused one has no account
    took_s = sum(answer.took_s for answer in runs.answers.values())
    with capsys.disabled():
        print(f"\n{len(CASES)} recorded runs of Kilroy: {agreeing} agree after {len(REWRITES) + 1} rewrites, ", end="")
        print(f"{len(DIFFERENCES)} differ where declared; {took_s:.0f} s of runs")
    assert agreeing + len(DIFFERENCES) == len(CASES)
