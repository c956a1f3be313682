"""Automations on a real server: made by the commands of the how-to page, acting on the events of real runs."""

from __future__ import annotations

import json
import re
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from real_prefect import ROOT, Prefect, ended, events, eventually

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


@pytest.fixture
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


@pytest.fixture
def automations(worker: Prefect, posted: tuple[str, list[dict[str, str]]], tmp_path: Path) -> Iterator[Prefect]:
    """The page's automations on the server; removed afterwards, because other tests' runs fail too."""
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    try:
        for command in commands(posted[0]):
            done = subprocess.run(
                ["bash", "-euo", "pipefail", "-c", command],
                cwd=tmp_path,
                env=worker.environment,
                capture_output=True,
                text=True,
                check=False,
            )
            assert done.returncode == 0, done.stdout + done.stderr
        assert [path.name for path in tmp_path.iterdir()] == ["examples"]
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


def end_event_of(prefect: Prefect, run_id: str) -> dict[str, Any]:
    """The event of the run's end, once the server has it."""
    ends = {"kilroy.run.completed", "kilroy.run.failed", "kilroy.run.canceled"}
    return eventually(
        lambda: next((event for event in kilroy_events(prefect, run_id) if event["event"] in ends), None),
        what="the event of the end",
    )


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

    end = end_event_of(automations, good_run.name)
    assert end["event"] == "kilroy.run.completed"
    assert end["resource"]["kilroy.label.team"] == "blue"
    assert end["occurred"] > events(good_run)[-1]["ts"][:26]
    named = {(related["prefect.resource.role"], related.get("prefect.resource.name")) for related in end["related"]}
    assert named >= {("flow-run", automations.flow_run(good)["name"]), ("flow", "attractor"), ("deployment", "attractor")}
    assert "prefect.tag.kilroy" in {related["prefect.resource.id"] for related in end["related"]}
    assert [event["event"] for event in kilroy_events(automations, good_run.name)] == [
        "kilroy.run.started",
        "kilroy.run.completed",
    ]


def test_a_hook_in_a_process_of_its_own_sends_the_event_before_it_ends(worker: Prefect) -> None:
    """After a cancel the worker calls the hook in a fresh process that is gone at once; the server has the event still."""
    slow = BUILD.replace("exit $KILROY_INPUT_CODE", "sleep 300")
    flow_run_id = worker.start_run("attractor", graph=slow, options={"workspace": "plain"})
    run = worker.run_directory(flow_run_id)
    eventually(lambda: list(run.glob("*/process-*.json")), what="a tool at work")

    worker.post(f"/flow_runs/{flow_run_id}/set_state", state={"type": "CANCELLING"})

    assert ended(run)["status"] == "canceled"
    end = end_event_of(worker, run.name)
    assert (end["event"], end["payload"]["reason"]) == ("kilroy.run.canceled", "canceled: in the Prefect UI or API")
