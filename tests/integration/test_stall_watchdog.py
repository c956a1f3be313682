"""The stall watchdog and what may be silent. That it ends a run as Kilroy does, the recorded runs show."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from real_prefect import Prefect, ended, events, eventually

LIMIT_S = 3.0
"""The stall limit. A busy machine's disk may hold up what the engine writes between two stages for a second."""
SILENCE_S = LIMIT_S + 0.5
QUIET = (
    "digraph quiet { start [shape=Mdiamond] done [shape=Msquare] "
    'tool [shape=parallelogram, tool_command="true"] start -> tool -> done }'
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


def test_the_wait_for_a_slot_is_no_stall(prefect: Prefect, occupied: None, tmp_path: Path) -> None:
    """Longer than the stall limit. The other waits of a run that are none need no server: see the unit tests of stops."""
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
