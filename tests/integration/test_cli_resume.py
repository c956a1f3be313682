"""``kilroy resume`` as its users call it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

from real_prefect import Prefect, eventually, recorded_pids

KEYS = ["run_id", "logs_root", "worktree", "run_branch", "final_commit"]
PIPELINE = """digraph secret {
  inputs="token"
  node [shape=parallelogram]
  start [shape=Mdiamond]
  first [tool_command="echo first >> ../side; echo kept > scratch.txt"]
  work  [tool_command="echo work >> ../side; cat scratch.txt; test $KILROY_INPUT_TOKEN = new || exit 3"]
  slow  [tool_command="echo slow >> ../side; test -e ../quick || sleep 300"]
  done  [shape=Msquare]
  start -> first -> work
  work -> slow [condition="outcome=success"]
  slow -> done [condition="outcome=success"]
}
"""


def test_a_plain_run_is_resumed_twice_by_command(prefect: Prefect, tmp_path: Path) -> None:
    """After a failure and after a Ctrl-C: exit codes, Kilroy's five lines, only the new start on the terminal.

    The folder of a plain run stays as it is, a secret is looked up again, and the records show every start.
    """
    (tmp_path / "secret.dot").write_text(PIPELINE)
    environment = {**prefect.environment, "KILROY_RUNS_ROOT": str(tmp_path / "runs")}
    run = tmp_path / "runs" / "r1"

    def kilroy(*arguments: str, token: str = "old") -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "kilroy_engine.cli.main", *arguments]
        given = environment | {"TOKEN": token}
        return subprocess.run(command, cwd=tmp_path, env=given, capture_output=True, text=True, timeout=120, check=False)

    failed = kilroy("run", "secret.dot", "--run-id", "r1", "--no-git", "--input", "token=env:TOKEN")
    assert failed.returncode == 1, failed.stderr

    command = [sys.executable, "-m", "kilroy_engine.cli.main", "resume", "r1"]
    with subprocess.Popen(
        command, cwd=tmp_path, env=environment | {"TOKEN": "new"}, stderr=subprocess.PIPE, text=True
    ) as process:
        eventually(lambda: [pid for pid in recorded_pids(run) if (run / "slow" / f"process-{pid}.json").exists()], what="slow")
        os.kill(process.pid, signal.SIGINT)
        assert process.wait(timeout=60) == 130
        assert process.stderr is not None
        said = process.stderr.read()
    assert "run resumed at work (start 2, was fail)" in said
    assert "first: started" not in said

    (run / "quick").touch()
    done = kilroy("resume", "r1", token="new")
    assert done.returncode == 0, done.stderr
    facts = dict(line.split("=", 1) for line in done.stdout.splitlines())
    assert list(facts) == KEYS
    assert facts["logs_root"] == str(run)
    assert (run / "side").read_text().split() == ["first", "work", "work", "slow", "slow"]

    shown = json.loads(kilroy("status", "r1", "--json").stdout)
    assert (shown["state"], shown["completed_nodes"].count("first")) == ("success", 1)
    ends = [
        json.loads((run / name).read_bytes())["status"] for name in ("final.start-1.json", "final.start-2.json", "final.json")
    ]
    assert ends == ["fail", "canceled", "success"]

    again = kilroy("resume", "r1")
    assert (again.returncode, again.stdout) == (1, "")
    assert "run r1 has succeeded; there is nothing to resume" in again.stderr
