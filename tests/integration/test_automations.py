"""Automations on a real server: made by the commands of the how-to page, acting on the events of real runs."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from real_prefect import ROOT, Prefect, ended, events, eventually, is_alive, recorded_pids

PAGE = ROOT / "docs" / "how-to" / "automations.md"
BUILD = (
    "digraph build_test { start [shape=Mdiamond] done [shape=Msquare] "
    'make [shape=parallelogram, tool_command="exit $KILROY_INPUT_CODE"] '
    'start -> make  make -> done [condition="outcome=success"] }'
)


def commands(url: str) -> list[str]:
    """The page's shell blocks, with a web hook that exists."""
    blocks = re.findall(r"```sh\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) == 3
    return [block.replace("https://hooks.example.com/kilroy", url) for block in blocks]


@pytest.fixture(scope="module")
def posted() -> Iterator[tuple[str, list[dict[str, str]]]]:
    """A web hook on this machine: its address and what was posted to it."""
    received: list[dict[str, str]] = []

    class Hook(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            received.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            """Keeps the test's output clean."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Hook) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}/", received
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def automations(
    worker: Prefect, posted: tuple[str, list[dict[str, str]]], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Prefect]:
    """The page's automations on the server; removed afterwards, because other tests' runs fail too."""
    folder = tmp_path_factory.mktemp("automations")
    (folder / "examples").symlink_to(ROOT / "examples")

    def carry_out(block: str) -> subprocess.CompletedProcess[str]:
        shell = ["bash", "-euo", "pipefail", "-c", block]
        return subprocess.run(shell, cwd=folder, env=worker.environment, capture_output=True, text=True, check=False)

    try:
        with ThreadPoolExecutor() as threads:
            for done in threads.map(carry_out, commands(posted[0])):
                assert done.returncode == 0, done.stdout + done.stderr
        assert [path.name for path in folder.iterdir()] == ["examples"]
        yield worker
    finally:
        for automation in worker.post("/automations/filter"):
            remove(worker, f"/automations/{automation['id']}")


def remove(prefect: Prefect, address: str) -> None:
    """Removes something from the server, which may be busy for a moment."""
    eventually(lambda: prefect.http.delete(address).is_success, what=f"the removal of {address}")


def kilroy_events(prefect: Prefect, run_id: str) -> list[dict[str, Any]]:
    """The run's events on the server, oldest first."""
    wanted = {"filter": {"any_resource": {"id": [f"kilroy.run.{run_id}"]}, "event": {"prefix": ["kilroy."]}}, "limit": 50}
    found = prefect.post("/events/filter", **wanted)["events"]
    return sorted(found, key=lambda event: event["occurred"])


def names_of_events(prefect: Prefect, run_id: str, *, until: str) -> list[str]:
    """The names of the run's events, once the one that is waited for is among them."""

    def told() -> list[str] | None:
        names = [event["event"] for event in kilroy_events(prefect, run_id)]
        return names if until in names else None

    return eventually(told, what=f"the event {until}")


def runs_of(prefect: Prefect, deployment: str) -> list[dict[str, Any]]:
    return prefect.post("/flow_runs/filter", deployments={"name": {"any_": [deployment]}})


def test_a_success_starts_the_next_deployment_and_a_failure_tells_people(
    automations: Prefect, posted: tuple[str, list[dict[str, str]]]
) -> None:
    """The next deployment's run gets the run's id and directory and can read it; the web hook gets the reason."""
    plain = {"workspace": "plain"}
    good = automations.start_run("attractor", graph=BUILD, inputs={"code": "0"}, options=plain, labels={"team": "blue"})
    bad = automations.start_run("attractor", graph=BUILD, inputs={"code": "3"}, options=plain)
    good_run, bad_run = automations.run_directory(good), automations.run_directory(bad)
    ended(good_run)
    ended(bad_run)

    next_run = eventually(lambda: runs_of(automations, "report"), what="a run of the next deployment")
    assert [run["parameters"]["inputs"] for run in next_run] == [{"run_id": good_run.name, "run_directory": str(good_run)}]
    assert automations.final_state(next_run[0]["id"])["type"] == "COMPLETED"
    report = automations.run_directory(next_run[0]["id"])
    assert ended(report)["status"] == "success"
    assert good_run.name in (report / "outputs" / "report.txt").read_text(encoding="utf-8")

    told = eventually(lambda: posted[1], what="the notification")
    assert [note["subject"].splitlines()[-1] for note in told] == ["build_test failed"]
    assert f"Run {bad_run.name}: " in told[0]["text"]
    assert json.loads((bad_run / "final.json").read_text())["failure_reason"] in told[0]["text"]

    names = names_of_events(automations, good_run.name, until="kilroy.run.completed")
    assert names == ["kilroy.run.started", "kilroy.run.completed"]
    end = kilroy_events(automations, good_run.name)[-1]
    assert end["resource"]["kilroy.label.team"] == "blue"
    assert end["occurred"] > events(good_run)[-1]["ts"][:26]
    named = {(related["prefect.resource.role"], related.get("prefect.resource.name")) for related in end["related"]}
    assert named >= {("flow-run", automations.flow_run(good)["name"]), ("flow", "attractor"), ("deployment", "attractor")}
    assert "prefect.tag.kilroy" in {related["prefect.resource.id"] for related in end["related"]}


def test_a_crashed_run_is_resumed_once(automations: Prefect) -> None:
    """SIGKILL of the flow's process: a new flow run of the deployment goes on with the run. Not again when that ends, too.

    After a crash and after a cancel the state hook is called in a fresh process that is gone at once; the server has its
    event all the same.
    """
    slow = BUILD.replace("exit $KILROY_INPUT_CODE", "sleep 300")
    killed = automations.start_run("attractor", graph=slow, inputs={"code": "0"}, options={"workspace": "plain"})
    run = automations.run_directory(killed)
    os.kill(at_work(run), signal.SIGKILL)

    resuming = eventually(lambda: resuming_run(automations, run), within_s=120, what="the flow run that resumes")
    at_work(run, start=2)
    automations.post(f"/flow_runs/{resuming}/set_state", state={"type": "CANCELLING"})

    names = names_of_events(automations, run.name, until="kilroy.run.canceled")
    assert names == ["kilroy.run.started", "kilroy.run.failed", "kilroy.run.started", "kilroy.run.canceled"]
    end = kilroy_events(automations, run.name)[-1]
    assert (end["payload"]["start"], end["payload"]["reason"]) == (2, "canceled: in the Prefect UI or API")
    ends = [event["start"] for event in events(run) if event["event"] in {"run_completed", "run_failed"}]
    assert ends == [1, 2]
    assert [automations.final_state(flow_run)["type"] for flow_run in (killed, resuming)] == ["CRASHED", "CANCELLED"]


def at_work(run: Path, *, start: int = 1) -> int:
    """Process id of the run's start, once its tool is at work."""

    def working() -> bool:
        began = [event for event in events(run) if event["event"] in {"run_started", "run_resumed"}]
        return len(began) == start and any(is_alive(pid) for pid in recorded_pids(run))

    eventually(working, within_s=120, what=f"a tool of start {start} at work")
    return int((run / "run.pid").read_text())


def resuming_run(prefect: Prefect, run: Path) -> str | None:
    """Id of the flow run that was asked to go on with the run."""
    found = runs_of(prefect, "attractor")
    options = {flow_run["id"]: flow_run["parameters"].get("options") or {} for flow_run in found}
    return next((flow_run_id for flow_run_id, given in options.items() if given.get("resume_from") == str(run)), None)
