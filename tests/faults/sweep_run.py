"""One pipeline whose tools leave a trace outside of the run, and what a start of it did."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from real_prefect import eventually

PIPELINE = """digraph sweep {
  graph [goal="Survive", retry_target="repair"]
  node [shape=parallelogram]
  start  [shape=Mdiamond]
  plan   [tool_command="echo plan >> $SIDE; echo plan >> plan.txt"]
  flaky  [tool_command="echo flaky >> $SIDE; test -e tried || { touch tried; exit 1; }; echo flaky >> flaky.txt", max_retries=2,
          retry.backoff.initial_delay_ms=1]
  build  [tool_command="echo build >> $SIDE; cat plan.txt flaky.txt >> build.txt; cat build.txt"]
  check  [shape=diamond]
  docs   [tool_command="echo docs >> $SIDE; mkdir -p docs; echo docs >> docs/page.md"]
  sub    [shape=folder, dot_file="sub.dot"]
  boss   [shape=house, stack.child_dotfile="boss.dot", manager.poll_interval="200ms"]
  fan    [shape=component]
  a1     [tool_command="echo a1 >> $SIDE; cat x2.txt y2.txt; echo a1 >> a1.txt"]
  a2     [tool_command="echo a2 >> $SIDE; cat a1.txt; echo a2 >> a2.txt"]
  b1     [tool_command="echo b1 >> $SIDE; echo b1 >> b1.txt"]
  b2     [tool_command="echo b2 >> $SIDE; cat b1.txt; echo b2 >> b2.txt"]
  join   [shape=tripleoctagon, merge=all]
  verify [tool_command="echo verify >> $SIDE; cat a2.txt b2.txt && test -e repair.txt", goal_gate=true]
  sign   [tool_command="echo sign >> $SIDE; echo sign >> sign.txt"]
  repair [tool_command="echo repair >> $SIDE; echo repair >> repair.txt"]
  done   [shape=Msquare]
  start -> plan -> flaky -> build -> check
  check -> docs [condition="outcome=success"]
  docs -> sub
  sub -> boss [condition="outcome=success"]
  boss -> fan [condition="outcome=success"]
  fan -> a1 -> a2 -> join
  fan -> b1 -> b2 -> join
  join -> verify [condition="outcome=success"]
  verify -> sign -> done
  repair -> verify
}
"""
"""A retried stage, a diamond, two kinds of child pipeline, a fan-out whose branches race, a fan-in that merges them, a goal
gate that is unsatisfied at first, and a loop back to satisfy it."""

CHILD = """digraph NAME {
  node [shape=parallelogram]
  start [shape=Mdiamond]
  N1    [tool_command="echo N1 >> $SIDE; cat plan.txt; echo N1 >> N1.txt"]
  N2    [tool_command="echo N2 >> $SIDE; cat N1.txt; echo N2 >> N2.txt"]
  done  [shape=Msquare]
  start -> N1 -> N2 -> done
}
"""
CHILDREN = {name: CHILD.replace("NAME", name).replace("N", letter) for name, letter in (("sub", "x"), ("boss", "y"))}

EXECUTIONS = Counter(
    {"flaky": 2, "verify": 2, "sign": 2}
    | dict.fromkeys(("plan", "build", "docs", "x1", "x2", "y1", "y2", "a1", "a2", "b1", "b2", "repair"), 1)
)
"""How often each tool is executed where nothing happens to the run."""

FILES = {
    **{f"{name}.txt": name for name in ("plan", "flaky", "x1", "x2", "y1", "y2", "a1", "a2", "b1", "b2", "repair")},
    "build.txt": "plan\nflaky",
    "docs/page.md": "docs",
    "sign.txt": "sign\nsign",
    "tried": "",
}
"""What the run's branch holds at the end: the work of every stage, once for each of its visits."""

TERMINAL = frozenset({"run_completed", "run_failed"})


@dataclass(frozen=True)
class Place:
    """Where the runs of the sweep are: runs root, repository, pipeline, and the environment of the command."""

    folder: Path
    environment: dict[str, str]

    def kilroy(self, run_id: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Calls the command for the run, whose tools write to a file of their own."""
        facts = {"KILROY_RUNS_ROOT": str(self.folder / "runs"), "SIDE": str(self.side(run_id))}
        return subprocess.run(
            [sys.executable, "-m", "kilroy_engine.cli.main", *arguments],
            cwd=self.folder / "repository",
            env=self.environment | facts | environment,
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )

    def kilroy_killed(self, run_id: str, *arguments: str, places: int) -> subprocess.CompletedProcess[str]:
        """The same, but the process is killed from outside as soon as it has come to so many failpoints: wherever it is then,
        most often in the middle of a tool or of git."""
        log = self.folder / f"{run_id}.places"
        log.unlink(missing_ok=True)
        command = [sys.executable, "-m", "kilroy_engine.cli.main", *arguments]
        facts = {
            "KILROY_RUNS_ROOT": str(self.folder / "runs"),
            "SIDE": str(self.side(run_id)),
            "KILROY_FAILPOINT_LOG": str(log),
        }
        with subprocess.Popen(
            command,
            cwd=self.folder / "repository",
            env=self.environment | facts,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            deadline = time.monotonic() + 240
            while process.poll() is None and time.monotonic() < deadline:
                if log.exists() and log.read_bytes().count(b"\n") >= places:
                    break
                time.sleep(0.002)
            process.kill()
            output, errors = process.communicate()
        return subprocess.CompletedProcess(command, process.returncode, output, errors)

    def settle(self, run_id: str) -> None:
        """Waits for the processes that a killed run has left: a tool that it had just started still leaves its trace."""
        eventually(lambda: not self._left_of(run_id), what="the end of what the killed run had started")

    def _left_of(self, run_id: str) -> list[int]:
        mine, left = str(self.side(run_id)), list[int]()
        for process in psutil.process_iter():
            try:
                if process.status() != psutil.STATUS_ZOMBIE and process.environ().get("SIDE") == mine:
                    left.append(process.pid)
            except psutil.Error:
                pass  # it ended in the meantime, or is somebody else's
        return left

    def run(self, run_id: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return self.kilroy(run_id, "run", str(self.folder / "sweep.dot"), "--run-id", run_id, **environment)

    def resume(self, run_id: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return self.kilroy(run_id, "resume", run_id, **environment)

    def directory(self, run_id: str) -> Path:
        return self.folder / "runs" / run_id

    def side(self, run_id: str) -> Path:
        return self.folder / f"{run_id}.side"

    def executions(self, run_id: str) -> list[str]:
        """Nodes whose tool was executed, in order, once for each time."""
        side = self.side(run_id)
        return side.read_text().split() if side.exists() else []

    def completed(self, run_id: str) -> list[str]:
        """Nodes whose visit is in the run's checkpoint, in order."""
        checkpoint = self.directory(run_id) / "checkpoint.json"
        return json.loads(checkpoint.read_bytes())["completed_nodes"] if checkpoint.exists() else []

    def finished(self, run_id: str) -> Counter[str]:
        """Visits per node that some checkpoint holds: the run's, a branch's or a child pipeline's."""
        found = Counter[str]()
        for folder, subfolders, names in os.walk(self.directory(run_id)):
            subfolders[:] = [name for name in subfolders if name != "worktree"]
            if "checkpoint.json" in names:
                found.update(json.loads(Path(folder, "checkpoint.json").read_bytes())["completed_nodes"])
        return found

    def files(self, run_id: str) -> dict[str, str]:
        """Files on the run's branch and what is in them, without those that the engine leaves about failures."""
        branch = f"attractor/run/{run_id}"
        names = self._git("ls-tree", "-r", "--name-only", branch).split()
        return {name: self._git("show", f"{branch}:{name}").strip() for name in names if not name.startswith(".ai/")}

    def lines(self, run_id: str) -> list[bytes]:
        """The lines of the run's stream, without a last one that has no newline."""
        stream = self.directory(run_id) / "progress.ndjson"
        return stream.read_bytes().split(b"\n")[:-1] if stream.exists() else []

    def commits(self, run_id: str, *options: str) -> list[str]:
        """Subjects on the run's branch, oldest first; ``options`` are those of ``git log``."""
        shown = self._git("log", "--reverse", "--format=%s", *options, f"attractor/run/{run_id}")
        return [subject.replace(f"attractor({run_id})", "attractor") for subject in shown.splitlines()]

    def _git(self, *arguments: str) -> str:
        repository = self.folder / "repository"
        return subprocess.run(["git", *arguments], cwd=repository, capture_output=True, text=True, check=True).stdout


def make_place(folder: Path, environment: dict[str, str]) -> Place:
    """The pipeline, its children and a git repository with one commit."""
    (folder / "sweep.dot").write_text(PIPELINE, encoding="utf-8")
    for name, text in CHILDREN.items():
        (folder / f"{name}.dot").write_text(text, encoding="utf-8")
    repository = folder / "repository"
    repository.mkdir()
    for arguments in (("init", "--quiet"), ("commit", "--quiet", "--allow-empty", "--message=one")):
        subprocess.run(["git", *arguments], cwd=repository, env=os.environ | environment, check=True)
    return Place(folder, environment)


def parsed(lines: Sequence[bytes]) -> tuple[list[dict[str, Any]], int]:
    """The events of the lines, and how many lines are none."""
    events: list[dict[str, Any]] = []
    torn = 0
    for line in lines:
        try:
            events.append(json.loads(line))
        except ValueError:
            torn += 1
    return events, torn


def killed(done: subprocess.CompletedProcess[str]) -> bool:
    return done.returncode == -signal.SIGKILL
