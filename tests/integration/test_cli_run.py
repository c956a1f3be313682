"""``kilroy run`` as its users call it: real processes, a real local server, real bash and git."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import httpx
import pytest

KILROY = [sys.executable, "-m", "kilroy_engine.cli.main"]
KEYS = ["run_id", "logs_root", "worktree", "run_branch", "final_commit"]
"""What Kilroy prints after a run, in its order."""

HELLO = """digraph hello {
  start [shape=Mdiamond]
  exit [shape=Msquare]
  greet [shape=parallelogram, tool_command="echo hello $KILROY_INPUT_NAME; echo $KILROY_INPUT_NAME > greeted.txt"]
  start -> greet
  greet -> exit [condition="outcome=success"]
}
"""
BROKEN = HELLO.replace("echo hello", "echo the cause >&2; false; exit 3; echo")
SLOW = HELLO.replace("echo hello", "echo waiting; sleep 60; echo")

T = TypeVar("T")


@dataclass
class Home:
    """A user's machine: a state folder of its own, no Prefect configured."""

    path: Path
    environment: dict[str, str] = field(default_factory=dict[str, str])

    def kilroy(self, *arguments: str, cwd: Path | None = None, stdin: str = "", **environment: str) -> Done:
        """Calls the command and waits for it."""
        done = subprocess.run(
            [*KILROY, *arguments],
            input=stdin,
            capture_output=True,
            text=True,
            cwd=cwd or self.path,
            env=self.environment | environment,
            timeout=90,
            check=False,
        )
        return Done(done.returncode, done.stdout, done.stderr)

    @contextmanager
    def started(self, *arguments: str) -> Generator[subprocess.Popen[str]]:
        """Calls the command without waiting for it; it is gone at the end of the block."""
        with subprocess.Popen(
            [*KILROY, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=self.path,
            env=self.environment,
        ) as process:
            try:
                yield process
            finally:
                process.kill()

    def runs(self) -> list[dict[str, str]]:
        """The runs, the newest first."""
        return json.loads(self.kilroy("runs", "list", "--json").stdout)


@dataclass(frozen=True)
class Done:
    """How a call ended."""

    code: int
    stdout: str
    stderr: str

    @property
    def facts(self) -> dict[str, str]:
        """Standard output as Kilroy's ``key=value`` lines."""
        return dict(line.split("=", 1) for line in self.stdout.splitlines())

    @property
    def page(self) -> str:
        """Address of the run's page."""
        return next(line.split()[1] for line in self.stderr.splitlines() if line.startswith("  page "))


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    """One machine for the tests of this file; its local server is started by the first run and stopped at the end."""
    path = tmp_path_factory.mktemp("home")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("KILROY_", "PREFECT_"))}
    folders = {"HOME": str(path), "XDG_STATE_HOME": str(path / "state"), "PREFECT_HOME": str(path / "prefect")}
    home = Home(path, kept | folders | {"PYTHONUTF8": "1"})
    for name, text in (("hello", HELLO), ("broken", BROKEN), ("slow", SLOW)):
        (path / f"{name}.dot").write_text(text)
    yield home
    home.kilroy("server", "stop")


def eventually(found: Callable[[], T | None], what: str) -> T:
    """The first true answer of ``found`` within half a minute."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        answer = found()
        if answer:
            return answer
        time.sleep(0.05)
    pytest.fail(f"{what} did not come within 30 s")


def ask(page: str, path: str, **content: object) -> object:
    """An answer of the API behind the page of a run."""
    url = f"{page.partition('/v2/')[0]}/api/{path}"

    def answer() -> httpx.Response | None:
        got = httpx.post(url, json=content, timeout=30) if content else httpx.get(url, timeout=30)
        return None if got.status_code == 503 else got  # SQLite is busy for a moment

    return eventually(answer, url).raise_for_status().json()


def test_a_first_run_needs_nothing_but_the_file(home: Home) -> None:
    """Without any server a local one is started, which is said first; standard output is Kilroy's five lines and no more.

    The page that is named is the run's, and Prefect has recorded it with its log lines.
    """
    done = home.kilroy("run", "hello.dot", "--input", "name=Ada", "--label", "team=x")
    assert done.code == 0, done.stderr
    assert done.stderr.startswith("Starting a local Prefect server")
    assert list(done.facts) == KEYS
    run = Path(done.facts["logs_root"])
    assert run == home.path / "state/kilroy/attractor/runs" / done.facts["run_id"]
    assert (Path(done.facts["worktree"]) / "greeted.txt").read_text() == "Ada\n"
    assert json.loads((run / "final.json").read_text())["status"] == "success"
    assert json.loads((run / "manifest.json").read_text())["labels"] == {"team": "x"}
    flow_run_id = done.page.rsplit("/", 1)[1]
    flow_run = ask(done.page, f"flow_runs/{flow_run_id}")
    assert isinstance(flow_run, dict)
    assert flow_run["state"]["type"] == "COMPLETED"
    only_this = {"logs": {"flow_run_id": {"any_": [flow_run_id]}}}
    eventually(lambda: ask(done.page, "logs/filter", **only_this), "the run's log in Prefect")


def test_a_later_run_uses_the_server_again_and_reads_dot_from_standard_input(home: Home) -> None:
    """``-`` is the pipeline on standard input; the plain view has one line per event and none of Prefect's log lines."""
    done = home.kilroy("run", "-", "--input", "name=Bo", stdin=HELLO)
    assert done.code == 0, done.stderr
    assert done.stderr.startswith("Using the local Prefect server")
    assert re.search(r"\d\d:\d\d:\d\d  greet: success \(", done.stderr)
    assert done.stderr.splitlines()[-1].endswith("run success")
    assert " | INFO " not in done.stderr
    assert "prefect" not in done.stderr.partition("\nRun ")[2].lower().replace("/v2/runs/flow-run/", "")


def test_a_failed_run_says_why_and_where_to_look(home: Home) -> None:
    """Exit code 1; the reason, the failed stage's folder and the end of its output, and Kilroy's lines on standard error."""
    done = home.kilroy("run", "broken.dot", "--no-git", "--input", "name=x")
    assert (done.code, done.stdout) == (1, "")
    assert "kilroy: run failed: stage failed with no outgoing fail edge: exit status 3" in done.stderr
    run = Path(next(line for line in done.stderr.splitlines() if line.startswith("logs_root=")).partition("=")[2])
    assert f"logs of the failed stage: {run / 'greet'}\n  | the cause\n" in done.stderr
    assert [line.split("=")[0] for line in done.stderr.splitlines()[-5:]] == KEYS


def test_ctrl_c_cancels_the_run_and_everybody_who_follows_it_learns_so(home: Home) -> None:
    """SIGINT ends the tool and the run as canceled: exit code 130 here and in ``follow`` and ``runs wait`` elsewhere."""
    before = {run["run_id"] for run in home.runs()}
    with home.started("run", "slow.dot", "--no-git") as process:
        run = eventually(lambda: [run for run in home.runs() if run["run_id"] not in before], "the run")[0]
        with home.started("follow", run["run_id"]) as follower:
            log = Path(run["logs_root"]) / "greet" / "stdout.log"
            eventually(lambda: log.exists() and "waiting" in log.read_text(), "the tool")
            process.send_signal(signal.SIGINT)
            stdout, stderr = process.communicate(timeout=30)
            followed, _ = follower.communicate(timeout=30)
    assert (process.returncode, stdout) == (130, ""), stderr
    assert "kilroy: run canceled: by signal SIGINT" in stderr
    assert follower.returncode == 130
    assert followed.splitlines()[-1].endswith("run canceled: canceled: by signal SIGINT")
    assert home.kilroy("runs", "wait", run["run_id"]).code == 130


def test_a_git_run_ends_on_its_branch(home: Home, tmp_path: Path) -> None:
    """Inside a repository the run works on a branch of its own; the last commit and the branch are printed."""

    def git(*arguments: str) -> str:
        command = ["git", "-c", "user.name=t", "-c", "user.email=t@t", *arguments]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stdout.strip()

    git("init", "-q", "-b", "main")
    git("commit", "-q", "--allow-empty", "-m", "first")
    done = home.kilroy("run", str(home.path / "hello.dot"), "--input", "name=Git", "--run-id", "git-run", cwd=tmp_path)
    assert done.code == 0, done.stderr
    assert (done.facts["run_id"], done.facts["run_branch"]) == ("git-run", "attractor/run/git-run")
    assert done.facts["final_commit"] == git("rev-parse", "attractor/run/git-run")
    assert done.facts["worktree"] == ""
    assert git("show", "attractor/run/git-run:greeted.txt") == "Git"
    again = home.kilroy("run", str(home.path / "hello.dot"), "--input", "name=Git", "--run-id", "git-run", cwd=tmp_path)
    assert (again.code, again.stdout) == (1, "")
    assert "git-run" in again.stderr.splitlines()[-1]


def test_a_stages_own_branch_and_repository_end_up_on_the_runs_branch(home: Home, tmp_path: Path) -> None:
    """What is pushed and printed holds the work: of a stage that switched branches, and of one that made a repository."""

    def git(folder: Path, *arguments: str) -> str:
        command = ["git", "-c", "user.name=t", "-c", "user.email=t@t", *arguments]
        return subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout.strip()

    work, remote = tmp_path / "work", tmp_path / "remote.git"
    work.mkdir()
    git(tmp_path, "init", "-q", "--bare", str(remote))
    git(work, "init", "-q", "-b", "main")
    git(work, "commit", "-q", "--allow-empty", "-m", "first")
    (work / ".git" / "hooks").mkdir(exist_ok=True)
    for name in ("pre-commit", "post-checkout"):
        (work / ".git" / "hooks" / name).write_text("#!/bin/sh\nexit 1\n")
        (work / ".git" / "hooks" / name).chmod(0o755)
    (tmp_path / "own.dot").write_text(
        "digraph own { node [shape=parallelogram] start [shape=Mdiamond] done [shape=Msquare]"
        ' a [tool_command="git switch -q -c feature/x; echo hi > new.txt"]'
        ' b [tool_command="mkdir app; cd app; git init -q; echo code > main.py"] start -> a -> b -> done }'
    )
    done = home.kilroy("run", str(tmp_path / "own.dot"), "--run-id", "own", "--push-remote", str(remote), cwd=work)
    assert done.code == 0, done.stderr
    assert "branch feature/x" in done.stderr
    assert done.facts["final_commit"] == git(remote, "rev-parse", "attractor/run/own")
    assert git(remote, "ls-tree", "-r", "--name-only", "attractor/run/own").splitlines() == ["app/main.py", "new.txt"]


def test_preflight_checks_everything_and_starts_nothing(home: Home) -> None:
    """``--preflight`` of a good run prints what it found; of a bad one the reason. Neither makes a run."""
    before = home.runs()
    good = home.kilroy("run", "hello.dot", "--preflight", "--input", "name=x")
    assert good.code == 0, good.stderr
    assert good.facts == {"preflight": "ok", "pipeline": "hello", "nodes": "3", "edges": "2", "server": "local"}
    bad = home.kilroy("run", "hello.dot", "--preflight", "--repo", str(home.path))
    assert (bad.code, bad.stdout) == (1, "")
    assert "repository" in bad.stderr
    assert home.runs() == before


def test_a_pipeline_with_an_error_is_refused_with_its_place(home: Home) -> None:
    """The error has file, line and column, nothing is started, the exit code is 1."""
    (home.path / "twice.dot").write_text(HELLO.replace("exit [shape=Msquare]", "exit [shape=Mdiamond]"))
    before = home.runs()
    done = home.kilroy("run", "twice.dot")
    assert (done.code, done.stdout) == (1, "")
    assert "twice.dot:3:3 error start_node" in done.stderr
    assert done.stderr.splitlines()[-1].endswith("nothing was started")
    assert home.runs() == before


def test_warnings_come_before_the_start_one_line_each(home: Home) -> None:
    """A warning stops nothing: its place and text on standard error, how to mend it on request."""
    (home.path / "warns.dot").write_text(HELLO.replace(' [condition="outcome=success"]', ""))
    done = home.kilroy("run", "warns.dot", "--preflight", "--input", "name=x")
    assert done.code == 0
    place = "warns.dot:6:3 warning terminal_condition_edge"
    assert [line for line in done.stderr.splitlines() if line.startswith(place)] == done.stderr.splitlines()[:-1]
    assert done.stderr.splitlines()[-1] == "`kilroy validate` shows how to mend it"


def test_a_configured_server_that_is_away_is_an_error(home: Home, tmp_path: Path) -> None:
    """Never another server behind the user's back: one message with the address, and no local server is started."""
    url = "http://127.0.0.1:9/api"
    done = home.kilroy("run", "hello.dot", "--input", "name=x", PREFECT_API_URL=url, XDG_STATE_HOME=str(tmp_path))
    assert (done.code, done.stdout) == (1, "")
    assert done.stderr.startswith(f"kilroy: The configured Prefect API at {url} cannot be used")
    assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "kilroy").exists()


def test_a_secret_is_looked_up_on_the_server_that_the_run_uses(home: Home) -> None:
    """``NAME=secret:BLOCK`` names a block of the local server; one that does not exist refuses the run."""
    done = home.kilroy("run", "hello.dot", "--no-git", "--input", "name=secret:no-such-block")
    assert (done.code, done.stdout) == (1, "")
    assert "no-such-block" in done.stderr.splitlines()[-1]
    assert "this is a bug" not in done.stderr


def test_the_local_server_can_be_seen_and_stopped(home: Home) -> None:
    """``server status`` tells where it is, ``server stop`` ends it; both are clear when there is none. Runs last."""
    home.kilroy("run", "hello.dot", "--no-git", "--input", "name=x")
    running = home.kilroy("server", "status")
    assert (running.code, running.facts["state"].partition(",")[0]) == (0, "running")
    assert home.kilroy("server", "stop").stdout == "The local Prefect server has stopped.\n"
    assert home.kilroy("server", "status").code == 1
    assert home.kilroy("server", "stop").stdout == "No local Prefect server was running.\n"
