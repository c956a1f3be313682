"""One pipeline whose tools leave a trace outside of the run, and what a start of it did."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PIPELINE = """digraph sweep {
  graph [goal="Survive", retry_target="repair"]
  node [shape=parallelogram]
  start  [shape=Mdiamond]
  plan   [tool_command="echo plan >> $SIDE; echo plan > plan.txt"]
  fetch  [tool_command="echo fetch >> $SIDE; echo fetched > fetched.txt"]
  flaky  [tool_command="echo flaky >> $SIDE; test -e tried || { touch tried; exit 1; }", max_retries=2,
          retry.backoff.initial_delay_ms=1]
  build  [tool_command="echo build >> $SIDE; cat plan.txt fetched.txt > built.txt; cat built.txt"]
  unit   [tool_command="echo unit >> $SIDE; test -s built.txt"]
  check  [shape=diamond]
  docs   [tool_command="echo docs >> $SIDE; mkdir -p docs; echo text > docs/page.md"]
  verify [tool_command="echo verify >> $SIDE; test -e repaired", goal_gate=true]
  sign   [tool_command="echo sign >> $SIDE; echo signed >> signatures.txt"]
  repair [tool_command="echo repair >> $SIDE; touch repaired"]
  done   [shape=Msquare]
  start -> plan -> fetch -> flaky -> build -> unit -> check
  check -> docs [condition="outcome=success"]
  docs -> verify -> sign -> done
  repair -> verify
}
"""
"""12 stages: a retried one, a diamond, a goal gate that is unsatisfied at first, and a loop back to satisfy it."""

TOOLS = frozenset({"plan", "fetch", "flaky", "build", "unit", "docs", "verify", "sign", "repair"})
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
        """Nodes whose visit is in the checkpoint, in order."""
        checkpoint = self.directory(run_id) / "checkpoint.json"
        return json.loads(checkpoint.read_bytes())["completed_nodes"] if checkpoint.exists() else []

    def lines(self, run_id: str) -> list[bytes]:
        """The lines of the run's stream, without a last one that has no newline."""
        stream = self.directory(run_id) / "progress.ndjson"
        return stream.read_bytes().split(b"\n")[:-1] if stream.exists() else []

    def commits(self, run_id: str) -> list[str]:
        """Subjects on the run's branch, oldest first."""
        log = ["git", "log", "--reverse", "--format=%s", f"attractor/run/{run_id}"]
        shown = subprocess.run(log, cwd=self.folder / "repository", capture_output=True, text=True, check=True).stdout
        return [subject.replace(f"attractor({run_id})", "attractor") for subject in shown.splitlines()]


def make_place(folder: Path, environment: dict[str, str]) -> Place:
    """The pipeline and a git repository with one commit."""
    (folder / "sweep.dot").write_text(PIPELINE, encoding="utf-8")
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
