"""Ten runs of 64 branches at once on one local server: whether all succeed, and how long each of them was silent at most.

A request that the busy server refuses with 503 costs its client at least two seconds of silence; in a run without such a
stall the longest silence is the wait for the processor. ``RUNS=3`` chooses another number.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

from fan_out import WIDE, wide

RUNS = int(os.environ.get("RUNS", "10"))
LIMIT_S = 300.0


def start(number: int, folder: Path, environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
    """A run in a process of its own."""
    command = [sys.executable, "-m", "kilroy_engine.cli.main", "run", "wide.dot", "--no-git"]
    with (folder / f"{number}.err").open("wb") as errors:
        return subprocess.Popen(
            [*command, "--logs-root", str(folder / f"run-{number}")],
            cwd=folder,
            env=dict(environment),
            stdout=subprocess.DEVNULL,
            stderr=errors,
        )


def row(number: int, folder: Path) -> str:
    """How the run ended, how long it took, its longest silence, what it began with, and why the run failed. Times in s."""
    run = folder / f"run-{number}"
    lines = [json.loads(line) for line in (run / "progress.ndjson").read_text(encoding="utf-8").splitlines()]
    times = [datetime.fromisoformat(line["ts"][:26].rstrip("Z")).replace(tzinfo=UTC) for line in lines]
    silences = [(later - earlier).total_seconds() for earlier, later in pairwise(times)]
    longest = max(silences)
    before = lines[silences.index(longest)]
    final = json.loads((run / "final.json").read_bytes()) if (run / "final.json").exists() else {"status": "no end"}
    took = (times[-1] - times[0]).total_seconds()
    after = f"{before['event']} {before.get('node_id', '')}".strip()
    return f"| {number} | {final['status']} | {took:.1f} | {longest:.1f} | {after} | {final.get('failure_reason', '')[:80]} |"


def main() -> None:
    """Starts them all, waits for them and prints a table."""
    from kilroy_engine.orchestration.local_server import client_environment, ensure_server, stop_server

    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        (folder / "wide.dot").write_text(wide(WIDE), encoding="utf-8")
        homes = {"HOME": place, "XDG_STATE_HOME": f"{place}/state", "PREFECT_HOME": f"{place}/prefect"}
        server = ensure_server(state_dir=folder / "server", on_status=lambda line: print(line, file=sys.stderr))
        environment = {**os.environ, **homes, **client_environment(server)}
        began = time.monotonic()
        processes = [start(number, folder, environment) for number in range(RUNS)]
        try:
            for process in processes:
                process.wait(timeout=max(1.0, LIMIT_S - (time.monotonic() - began)))
        except subprocess.TimeoutExpired:
            print(f"not over after {LIMIT_S:g} s")
        finally:
            for process in processes:
                process.kill()
                process.wait()
        print(f"{RUNS} runs of {WIDE} branches: {time.monotonic() - began:.1f} s; load {os.getloadavg()[0]:.1f}")
        print("| run | status | s | longest silence, s | after | reason |\n|---|---|---|---|---|---|")
        print("\n".join(row(number, folder) for number in range(RUNS)))
        stop_server(folder / "server")


if __name__ == "__main__":
    main()
