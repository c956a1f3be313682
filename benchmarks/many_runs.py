"""Ten runs of 64 branches at once on one local server: whether all succeed, and how often the busy server held them up.

A request that the server refuses with 503 costs its client two seconds, the next refusals four, eight, and so on; they are
listed. Silence is the longest time between two events of a run before its last stage is over, end what comes after that.
``RUNS=3`` chooses another number.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

from fan_out import WIDE, wide

from kilroy_engine.server.local_server import client_environment, ensure_server, stop_server

_ID = re.compile(r"[0-9a-f-]{36}")
RUNS = int(os.environ.get("RUNS", "10"))
LIMIT_S = 300.0


PROGRAM = """
import sys
import httpx
refusals = open(sys.argv.pop(1), "w", buffering=1)

def noting(send):
    def sent(self, request, **options):
        answer = send(self, request, **options)
        if answer.status_code == 503:
            print(request.method, request.url.path, file=refusals)
        return answer
    return sent

def noting_async(send):
    async def sent(self, request, **options):
        answer = await send(self, request, **options)
        if answer.status_code == 503:
            print(request.method, request.url.path, file=refusals)
        return answer
    return sent

httpx.Client.send, httpx.AsyncClient.send = noting(httpx.Client.send), noting_async(httpx.AsyncClient.send)
from kilroy_engine.cli.main import main
sys.exit(main(sys.argv[1:]))
"""
"""``kilroy``, which also notes each request that the server refused."""


def start(number: int, folder: Path, environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
    """A run in a process of its own."""
    command = [sys.executable, "-c", PROGRAM, f"{number}.log", "run", "wide.dot", "--no-git", "--logs-root", f"run-{number}"]
    streams = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    return subprocess.Popen(command, cwd=folder, env=dict(environment), **streams)


def row(number: int, folder: Path) -> str:
    """A row of the table, times in seconds."""
    run = folder / f"run-{number}"
    lines = [json.loads(line) for line in (run / "progress.ndjson").read_text(encoding="utf-8").splitlines()]
    times = [datetime.fromisoformat(line["ts"][:26].rstrip("Z")).replace(tzinfo=UTC) for line in lines]
    last_stage = max(index for index, line in enumerate(lines) if line["event"] == "checkpoint_saved")
    silence = max((later - earlier).total_seconds() for earlier, later in pairwise(times[: last_stage + 1]))
    ending = (times[-1] - times[last_stage]).total_seconds()
    final = json.loads((run / "final.json").read_bytes()) if (run / "final.json").exists() else {"status": "no end"}
    reason = final.get("failure_reason", "")[:80]
    refused = Counter(_ID.sub("…", line) for line in (folder / f"{number}.log").read_text(encoding="utf-8").splitlines())
    told = ", ".join(f"{count} {request}" for request, count in refused.items()) or "none"
    took = (times[-1] - times[0]).total_seconds()
    return f"| {number} | {final['status']} | {took:.1f} | {silence:.1f} | {ending:.1f} | {told} | {reason} |"


def main() -> None:
    """Starts them all, waits for them and prints a table."""
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
        print("| run | status | took | silence | end | 503 | reason |\n|---|---|---|---|---|---|---|")
        print("\n".join(row(number, folder) for number in range(RUNS)))
        stop_server(folder / "server")


if __name__ == "__main__":
    main()
