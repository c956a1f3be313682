"""A run that restarts, with a real server: its directories, its branch, what the commands and Prefect show of it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from real_prefect import Prefect, ended, events

PIPELINE = r"""digraph restarting {
  inputs="name"
  loop_restart_persist_keys="tool.exit_code"
  node  [shape=parallelogram]
  start [shape=Mdiamond]
  poll  [tool_command="echo $KILROY_INPUT_NAME >> polls; test $(wc -l < polls) -lt 3 || touch ready",
         loop_until_file=ready, loop_max=9]
  work  [tool_command="echo w >> work; basename $KILROY_LOGS_ROOT"]
  check [tool_command="[ $(wc -l < work) -ge 3 ] || {
           printf '{\"status\": \"fail\", \"failure_reason\": \"connection reset\"}' > $KILROY_STAGE_LOGS_DIR/status.json
           exit 1; }"]
  done  [shape=Msquare]
  start -> poll -> work -> check
  check -> done [condition="outcome=success"]
  check -> work [condition="outcome=fail && context.failure_class=transient_infra", loop_restart=true]
}
"""
TERMINAL = {"run_completed", "run_failed"}


def names(directory: Path) -> list[str]:
    return [event["event"] for event in events(directory)]


def stages(directory: Path) -> list[str]:
    return [event["node_id"] for event in events(directory) if event["event"] == "stage_attempt_start"]


def test_a_run_restarts_until_the_trouble_has_passed(prefect: Prefect, repository: Path, tmp_path: Path) -> None:
    """Two restarts, each in a directory of its own, in one worktree, on one branch and in one flow run.

    The base directory and the last restart have the same end, once; a reader of the run sees all of it in order.
    """
    (tmp_path / "restarting.dot").write_text(PIPELINE)
    environment = {**prefect.environment, "KILROY_RUNS_ROOT": str(tmp_path / "runs")}
    run = tmp_path / "runs" / "r1"

    def kilroy(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "kilroy_engine.cli.main", *arguments]
        return subprocess.run(
            command, cwd=repository, env=environment, capture_output=True, text=True, timeout=120, check=False
        )

    remote = tmp_path / "remote.git"
    for arguments in (("init", "--quiet", "--bare", str(remote)), ("remote", "add", "origin", str(remote))):
        subprocess.run(["git", *arguments], cwd=repository, check=True)
    pipeline = str(tmp_path / "restarting.dot")
    done = kilroy("run", pipeline, "--run-id", "r1", "--input", "name=Ada", "--push-remote", "origin")
    assert done.returncode == 0, done.stderr

    first, last = run / "restart-1", run / "restart-2"
    final = ended(run)
    assert json.loads((last / "final.json").read_bytes()) == final
    assert [name for name in names(last) if name in TERMINAL] == [names(last)[-1]] == ["run_completed"]
    assert [stages(place) for place in (run, first, last)] == [
        ["start", "poll", "poll", "poll", "work", "check"],
        ["work", "check"],
        ["work", "check", "done"],
    ]
    restarting = ["loop_restart_signature", "git_push_start", "git_push_ok", "loop_restart"]
    assert names(run)[-5:] == [*restarting, "run_completed"]
    assert names(first)[-4:] == restarting
    assert names(last)[-3:] == ["git_push_start", "git_push_ok", "run_completed"]
    assert not (first / "final.json").exists()
    assert [event["iteration"] for event in events(run) if event["event"] == "loop_iteration"] == [1, 2]
    assert sorted(entry.name for entry in (run / "poll").glob("visit_*")) == ["visit_1", "visit_2"]

    manifest = json.loads((last / "manifest.json").read_bytes())
    assert (manifest["logs_root"], manifest["worktree"]) == (str(last), str(run / "worktree"))
    assert (last / "graph.dot").read_text() == PIPELINE
    checkpoint = json.loads((last / "checkpoint.json").read_bytes())
    assert (checkpoint["extra"]["restart_count"], checkpoint["extra"]["base_logs_root"]) == (2, str(run))
    context = checkpoint["context"]
    assert (context["loop_restart.iteration_count"], context["loop_restart.from_node"]) == (2, "check")
    assert context["input.name"] == "Ada"
    assert "loop.poll.iteration" not in context
    assert (last / "work" / "stdout.log").read_text() == "restart-2\n"

    log = ["git", "log", "--reverse", "--format=%s", "attractor/run/r1"]
    subjects = subprocess.run(log, cwd=repository, capture_output=True, text=True, check=True).stdout.splitlines()[1:]
    assert [subject.partition(": ")[2].partition(" ")[0] for subject in subjects] == [
        *stages(run),
        *stages(first),
        *stages(last),
    ]

    shown: dict[str, Any] = json.loads(kilroy("status", "r1", "--json").stdout)
    assert (shown["state"], shown["restart_count"], len(shown["completed_nodes"])) == ("success", 2, 11)
    followed = kilroy("follow", "r1")
    told = [line.partition("  ")[2] for line in followed.stdout.splitlines()]
    assert [line for line in told if line.startswith("restart")] == ["restart 1 at work", "restart 2 at work"]
    assert told[-1] == "run success"
    table = kilroy("runs", "show", "r1").stdout
    assert "restart 2, 1" in table

    flow_run = json.loads((run / "manifest.json").read_bytes())["flow_run_id"]
    task_runs = [task["name"] for task in prefect.task_runs(flow_run, count=11)]
    assert task_runs[-5:] == ["work (restart 1)", "check (restart 1)", *(f"{n} (restart 2)" for n in ("work", "check", "done"))]
