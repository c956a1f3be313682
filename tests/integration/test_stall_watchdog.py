"""The stall watchdog, against a recorded run of Kilroy and against stages that may be silent."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import Prefect, ended, events, eventually

GOLDEN = Path(__file__).parents[1] / "data" / "golden" / "12a-stall-watchdog"
KILROYS = ("stage_attempt_start", "stage_attempt_end", "stall_watchdog_timeout", "run_failed", "run_completed")
LIMIT_S = 3.0
"""The stall limit. A busy machine's disk may hold up what the engine writes between two stages for a second."""
SILENCE_S = LIMIT_S + 0.5
QUIET = (
    "digraph quiet { start [shape=Mdiamond] done [shape=Msquare] "
    'flaky [shape=parallelogram, tool_command="test -e seen || { touch seen; exit 1; }", max_retries=1, '
    f'"retry.backoff.initial_delay_ms"={SILENCE_S * 1000:.0f}, "retry.backoff.jitter"=false] '
    f'limited [shape=parallelogram, tool_command="sleep {SILENCE_S}", timeout=20s] '
    'chatty [shape=parallelogram, tool_command="for i in 1 2 3 4 5 6 7 8; do echo $i; sleep 0.5; done"] '
    'start -> flaky  flaky -> limited [condition="outcome=success"]  '
    'limited -> chatty [condition="outcome=success"]  chatty -> done [condition="outcome=success"] }'
)
TOOLS_LIMIT = "tag:handler:tool"
"""The concurrency limit that Prefect applies to task runs with the tag ``handler:tool``."""


def command(graph: Path, logs_root: Path, *options: str) -> list[str]:
    return [sys.executable, "-m", "kilroy_engine.cli.main", "run", str(graph), "--logs-root", str(logs_root), *options]


@pytest.fixture
def occupied(prefect: Prefect) -> Iterator[None]:
    """One tool at a time on the whole server, and that slot is taken."""
    limit = prefect.post("/v2/concurrency_limits/", name=TOOLS_LIMIT, limit=1)
    prefect.post("/v2/concurrency_limits/increment", names=[TOOLS_LIMIT], slots=1, mode="concurrency")
    yield
    prefect.ask("DELETE", f"/v2/concurrency_limits/{limit['id']}")


def test_a_silent_stage_fails_the_run_as_it_does_in_kilroy(prefect: Prefect, repository: Path, tmp_path: Path) -> None:
    """Recorded run 12a: the same end, the same events in the same order, the same status of the stage."""
    recorded = json.loads((GOLDEN / "recorded.json").read_text())
    for name in ("graph.dot", "run.yaml"):
        (repository / name).write_bytes((GOLDEN / name).read_bytes())
    logs_root = tmp_path / "run"
    done = subprocess.run(
        command(repository / "graph.dot", logs_root, "--config", "run.yaml"),
        env=prefect.environment,
        cwd=repository,
        capture_output=True,
        check=False,
        timeout=90,
    )
    final = ended(logs_root)
    assert done.returncode == recorded["exit_code"]
    assert (final["status"], final["failure_reason"]) == (recorded["final"]["status"], recorded["final"]["failure_reason"])
    ours = [(event["event"], event.get("node_id"), event.get("status")) for event in events(logs_root)]
    kilroys = [(event["event"], event.get("node_id"), event.get("status")) for event in recorded["events"]]
    assert [e for e in ours if e[0] in KILROYS] == [e for e in kilroys if e[0] in KILROYS]
    stage = json.loads((logs_root / "a" / "status.json").read_text())
    assert (stage["status"], stage["failure_reason"]) == tuple(recorded["node_status"]["a"].values())
    assert prefect.final_state(final["flow_run_id"])["type"] == "FAILED"


def test_waits_of_the_engine_output_and_stages_with_a_limit_are_no_stall(
    prefect: Prefect, occupied: None, tmp_path: Path
) -> None:
    """Longer than the stall limit: the wait for a slot of a concurrency limit, the delay before an attempt, a silent stage with
    a limit of its own, and one that prints all the time."""
    graph, logs_root = tmp_path / "quiet.dot", tmp_path / "run"
    graph.write_text(QUIET, encoding="utf-8")
    line = command(graph, logs_root, "--no-git", "--stall-timeout", f"{LIMIT_S:g}s")
    with subprocess.Popen(line, env=prefect.environment, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as process:
        try:
            stream = logs_root / "progress.ndjson"
            eventually(lambda: stream.exists() and time.time() - stream.stat().st_mtime > SILENCE_S, what="a wait for the slot")
            assert events(logs_root)[-1]["event"] == "edge_selected"
            prefect.post("/v2/concurrency_limits/decrement", names=[TOOLS_LIMIT], slots=1)
            _, said = process.communicate(timeout=90)
        finally:
            process.kill()
    assert process.returncode == 0, said
    assert ended(logs_root)["status"] == "success"
