"""An agent is at work, and the engine dies or the run is canceled: nothing of it stays, what it has used is on record."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
from played_claude import played
from polling import eventually
from real_prefect import Prefect, ended, events

PIPELINE = """digraph agent {
  start [shape=Mdiamond]  done [shape=Msquare]
  work  [prompt="Do it", llm_model="claude-sonnet-4-5"]
  start -> work -> done
}
"""


@dataclass(frozen=True)
class Started:
    """A ``kilroy run`` whose agent is at work."""

    process: subprocess.Popen[str]
    folder: Path
    environment: dict[str, str]

    @property
    def run(self) -> Path:
        return self.folder / "runs" / "r"

    def kilroy(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "kilroy_engine.cli.main", *arguments]
        return subprocess.run(
            command,
            cwd=self.folder,
            env=self.environment | environment,
            capture_output=True,
            text=True,
            timeout=200,
            check=False,
        )

    def ledger(self) -> list[dict[str, Any]]:
        file = self.run / "usage.ndjson"
        return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []

    def agents(self) -> list[int]:
        """Live processes of the agent, whatever they are children of."""
        found: list[int] = []
        for process in psutil.process_iter():
            try:
                if process.environ().get("KILROY_STAGE_LOGS_DIR") == str(self.run / "work") and process.status() != "zombie":
                    found.append(process.pid)
            except psutil.Error:
                continue
        return found


@pytest.fixture
def started(prefect: Prefect, tmp_path: Path) -> Started:
    """The agent has given its first answers, and would go on for minutes."""
    (tmp_path / "agent.dot").write_text(PIPELINE)
    environment = os.environ | prefect.environment | played(tmp_path, answers=1000, pause=0.2)
    environment["KILROY_RUNS_ROOT"] = str(tmp_path / "runs")
    command = [sys.executable, "-m", "kilroy_engine.cli.main", "run", "agent.dot", "--run-id", "r", "--no-git"]
    process = subprocess.Popen(
        command, cwd=tmp_path, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, text=True
    )
    begun = Started(process, tmp_path, environment)
    eventually(lambda: len(begun.ledger()) >= 2, what="the first answers of the agent")
    return begun


def test_a_killed_engine_leaves_the_usage_on_record_and_the_agent_to_the_reconciler(started: Started) -> None:
    """What was used is on disk before the kill, the reconciler ends the agent, a resume goes on; nothing is counted twice."""
    started.process.kill()
    started.process.wait()
    before = len(started.ledger())
    assert before >= 2
    assert started.agents()
    told = started.kilroy("reconcile", "--grace", "0s")
    assert told.returncode == 0, told.stderr
    assert not started.agents()
    assert ended(started.run)["failure_reason"].startswith("crashed:")

    resumed = started.kilroy("resume", "r", KILROY_PLAY_ANSWERS="2")
    assert resumed.returncode == 0, resumed.stderr[-800:]
    assert len(started.ledger()) == before + 2
    usage = [event for event in events(started.run) if event["event"] == "llm_usage"]
    assert len(usage) == before + 2


def test_a_cancel_in_prefect_ends_the_agent(started: Started, prefect: Prefect) -> None:
    """A run that no worker watches looks every two seconds: a cancel is through within five, and no process is left."""
    flow_run_id = json.loads((started.run / "manifest.json").read_text())["flow_run_id"]
    prefect.post(f"/flow_runs/{flow_run_id}/set_state", state={"type": "CANCELLING", "name": "Cancelling"}, force=True)
    eventually(lambda: not started.agents(), within_s=15, what="the end of the agent")
    started.process.wait(60)
    end = ended(started.run)
    assert (end["status"], end["failure_reason"]) == ("canceled", "canceled: in the Prefect UI or API")
