"""The stall watchdog, against a recorded run of Kilroy and against stages that may be silent."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from conftest import Prefect, ended, events

GOLDEN = Path(__file__).parents[1] / "data" / "golden" / "12a-stall-watchdog"
KILROYS = ("stage_attempt_start", "stage_attempt_end", "stall_watchdog_timeout", "run_failed", "run_completed")
QUIET = (
    "digraph quiet { start [shape=Mdiamond] done [shape=Msquare] "
    'flaky [shape=parallelogram, tool_command="test -e seen || { touch seen; exit 1; }", max_retries=1, '
    '"retry.backoff.initial_delay_ms"=3000, "retry.backoff.jitter"=false] '
    'limited [shape=parallelogram, tool_command="sleep 3", timeout=20s] '
    'chatty [shape=parallelogram, tool_command="for i in 1 2 3 4 5 6; do echo $i; sleep 0.5; done"] '
    'start -> flaky  flaky -> limited [condition="outcome=success"]  '
    'limited -> chatty [condition="outcome=success"]  chatty -> done [condition="outcome=success"] }'
)


def run(prefect: Prefect, graph: Path, logs_root: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "kilroy_engine.cli.main", "run", str(graph), "--logs-root", str(logs_root), *options]
    return subprocess.run(
        command, env=prefect.environment, cwd=graph.parent, capture_output=True, text=True, check=False, timeout=90
    )


def test_a_silent_stage_fails_the_run_as_it_does_in_kilroy(prefect: Prefect, repository: Path, tmp_path: Path) -> None:
    """Recorded run 12a: the same end, the same events in the same order, the same status of the stage."""
    recorded = json.loads((GOLDEN / "recorded.json").read_text())
    for name in ("graph.dot", "run.yaml"):
        (repository / name).write_bytes((GOLDEN / name).read_bytes())
    logs_root = tmp_path / "run"
    done = run(prefect, repository / "graph.dot", logs_root, "--config", "run.yaml")
    final = ended(logs_root)
    assert done.returncode == recorded["exit_code"]
    assert (final["status"], final["failure_reason"]) == (recorded["final"]["status"], recorded["final"]["failure_reason"])
    ours = [(event["event"], event.get("node_id"), event.get("status")) for event in events(logs_root)]
    kilroys = [(event["event"], event.get("node_id"), event.get("status")) for event in recorded["events"]]
    assert [e for e in ours if e[0] in KILROYS] == [e for e in kilroys if e[0] in KILROYS]
    stage = json.loads((logs_root / "a" / "status.json").read_text())
    assert (stage["status"], stage["failure_reason"]) == tuple(recorded["node_status"]["a"].values())
    assert prefect.final_state(final["flow_run_id"])["type"] == "FAILED"


def test_output_retry_delays_and_stages_with_a_limit_are_no_stall(prefect: Prefect, tmp_path: Path) -> None:
    """With a stall limit of 2 s: a delay of 3 s, a silent stage with a limit of its own, and one that prints all the time."""
    graph = tmp_path / "quiet.dot"
    graph.write_text(QUIET, encoding="utf-8")
    done = run(prefect, graph, tmp_path / "run", "--no-git", "--stall-timeout", "2s")
    assert done.returncode == 0, done.stderr
    assert ended(tmp_path / "run")["status"] == "success"
