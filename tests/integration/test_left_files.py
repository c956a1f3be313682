"""Runs whose stage leaves pipes, links and folders in the place of every file that the end of the run needs."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from leaving_stage import LEAVES
from real_prefect import Prefect, ended, eventually, is_alive

KILROY = [sys.executable, "-m", "kilroy_engine.cli.main"]


def write_graph(folder: Path, then: str) -> Path:
    """A pipeline whose only stage leaves everything, and then does something."""
    script = folder / "leave.sh"
    script.write_text(LEAVES + then)
    graph = folder / "left.dot"
    graph.write_text(
        "digraph left { start [shape=Mdiamond] done [shape=Msquare] "
        f'a [shape=parallelogram, tool_command="sh {script}"] start -> a -> done }}'
    )
    return graph


@pytest.mark.parametrize(
    "way", ["stop", pytest.param("interrupt", marks=pytest.mark.slow), pytest.param("deadline", marks=pytest.mark.slow)]
)
def test_a_run_is_ended_whatever_its_stage_has_left(prefect: Prefect, tmp_path: Path, way: str) -> None:
    """``kilroy stop``, Ctrl-C and the deadline lead to one end, no process is left, and no link was written through."""
    graph, run = write_graph(tmp_path, "sleep 300 & echo $$ $! > left; wait"), tmp_path / "runs" / "r1"
    command = [*KILROY, "run", str(graph), "--no-git", "--logs-root", str(run)]
    command += ["--run-timeout", "8s"] if way == "deadline" else []
    with subprocess.Popen(command, env=prefect.environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        try:
            left = run / "a" / "left"
            eventually(lambda: left.exists() and left.read_text().endswith("\n"), what="a stage that has left everything")
            pids = [int(pid) for pid in left.read_text().split()]
            if way == "stop":
                stopped = subprocess.run(
                    [*KILROY, "stop", str(run)],
                    env=prefect.environment,
                    capture_output=True,
                    text=True,
                    check=False,
                    timeout=90,
                )
                assert (stopped.returncode, stopped.stdout.splitlines()[1:]) == (0, ["stopped=graceful"]), stopped.stderr
            if way == "interrupt":
                process.send_signal(signal.SIGINT)
            _, told = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == 130
    assert b"Traceback" not in told
    assert ended(run)["status"] == "canceled"
    assert (tmp_path / "runs" / "precious").read_text() == "precious\n"
    eventually(lambda: not any(is_alive(pid) for pid in pids), what="the end of the stage's processes")
