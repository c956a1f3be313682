"""A real Prefect server and a real worker for the whole session, with files of their own; nothing of the user's is read."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from polling import eventually

from kilroy_engine.server.local_server import client_environment, ensure_server, stop_server

ROOT = Path(__file__).resolve().parents[1]
POOL = "kilroy"


@dataclass
class Prefect:
    """A Prefect server as its API shows it. ``settings`` are the environment of whoever uses it."""

    api_url: str
    settings: dict[str, str]
    http: httpx.Client = field(repr=False)

    @property
    def environment(self) -> dict[str, str]:
        """Makes a child process use the server, and tells whoever finds it later which test it is of."""
        test = os.environ.get("PYTEST_CURRENT_TEST", "")
        return {**self.settings, "PYTEST_CURRENT_TEST": test}

    def ask(self, method: str, path: str, content: Any = None) -> Any:
        """The answer to a request. A server with one core for eight runs may be busy: it says so with 503, or not in time."""
        for _ in range(50):
            try:
                answer = self.http.request(method, path, json=content)
            except httpx.TimeoutException:
                continue
            if answer.status_code != httpx.codes.SERVICE_UNAVAILABLE:
                break
            time.sleep(0.1)
        answer.raise_for_status()
        return answer.json() if answer.content else None

    def post(self, path: str, **content: Any) -> Any:
        return self.ask("POST", path, content)

    def get(self, path: str) -> Any:
        return self.ask("GET", path)

    def start_run(self, deployment: str, **parameters: Any) -> str:
        """Creates a flow run of a deployment and returns its id."""
        found = self.get(f"/deployments/name/attractor/{deployment}")
        return self.post(f"/deployments/{found['id']}/create_flow_run", parameters=parameters)["id"]

    def flow_run(self, flow_run_id: str) -> dict[str, Any]:
        return self.get(f"/flow_runs/{flow_run_id}")

    def run_directory(self, flow_run_id: str, *, within_s: float = 180.0) -> Path:
        """The run directory, once the run has one: under a worker two processes have to import Prefect first."""

        def label() -> str | None:
            return self.flow_run(flow_run_id)["labels"].get("kilroy.run_directory")

        return Path(eventually(label, within_s=within_s, what="the run directory's label"))

    def final_state(self, flow_run_id: str, *, within_s: float = 180.0) -> dict[str, Any]:
        """The flow run's state once it is a terminal one."""

        def terminal() -> dict[str, Any] | None:
            state = self.flow_run(flow_run_id)["state"]
            return state if state and state["type"] in {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"} else None

        return eventually(terminal, within_s=within_s, what="a terminal state")

    def task_runs(self, flow_run_id: str, *, count: int) -> list[dict[str, Any]]:
        """The flow run's task runs in their order, once there are ``count`` of them in a terminal state."""

        def recorded() -> list[dict[str, Any]] | None:
            found = self.post("/task_runs/filter", flow_runs={"id": {"any_": [flow_run_id]}}, sort="EXPECTED_START_TIME_ASC")
            done = [run for run in found if run["state_type"] in {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}]
            return found if len(done) >= count else None

        return eventually(recorded, what=f"{count} recorded task runs")


def child_environment(home: Path, extra: Mapping[str, str]) -> dict[str, str]:
    """The environment of this process without its Prefect and Kilroy settings, with homes of the test's own."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "KILROY_"))}
    return {
        **kept,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "HOME": str(home),
        "XDG_STATE_HOME": str(home / "state"),
        "PREFECT_HOME": str(home / "prefect"),
        "GIT_AUTHOR_NAME": "Test",
        "GIT_AUTHOR_EMAIL": "test@localhost",
        "GIT_COMMITTER_NAME": "Test",
        "GIT_COMMITTER_EMAIL": "test@localhost",
        **extra,
    }


@pytest.fixture(scope="session")
def prefect(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prefect]:
    """A real server on the loopback interface, stopped at the end."""
    home = tmp_path_factory.mktemp("prefect")
    server = ensure_server(state_dir=home / "server", on_status=lambda line: None)
    try:
        environment = child_environment(home, client_environment(server))
        with httpx.Client(base_url=server.api_url, timeout=30) as http:
            yield Prefect(server.api_url, environment, http)
    finally:
        stop_server(home / "server")


@pytest.fixture(scope="session")
def worker(prefect: Prefect, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prefect]:
    """A process worker with this project's deployments, made by the command that the README gives."""
    folder = tmp_path_factory.mktemp("worker")
    environment = {**prefect.environment, "PREFECT_WORKER_QUERY_SECONDS": "1"}

    def command(*arguments: str) -> None:
        done = subprocess.run(
            ["prefect", "--no-prompt", *arguments], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr

    command("work-pool", "create", POOL, "--type", "process")
    command("deploy", "--all")
    add_minute_schedule(prefect)
    with (folder / "worker.log").open("wb") as log:
        process = subprocess.Popen(
            ["prefect", "worker", "start", "--pool", POOL, "--type", "process"],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        try:
            yield prefect
        finally:
            os.killpg(process.pid, signal.SIGTERM)
            try:
                process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def add_minute_schedule(prefect: Prefect) -> None:
    """Lets the deployment start a minimal pipeline at every full minute."""
    minimal = "digraph minute { start [shape=Mdiamond] done [shape=Msquare] start -> done }"
    schedule = {
        "active": True,
        "schedule": {"cron": "* * * * *", "timezone": "UTC"},
        "max_scheduled_runs": 1,
        "parameters": {"graph": minimal, "options": {"workspace": "plain"}},
    }
    deployment = prefect.get("/deployments/name/attractor/attractor")
    prefect.ask("POST", f"/deployments/{deployment['id']}/schedules", [schedule])


def scheduled_run(prefect: Prefect, deployment: str) -> dict[str, Any]:
    """The first flow run that a schedule of the deployment (``flow/name``) has brought to Completed. The schedules go then:
    their runs would cost the tests that come later a fifth of the machine."""
    found = prefect.get(f"/deployments/name/{deployment}")
    wanted = {"deployment_id": {"any_": [found["id"]]}, "state": {"type": {"any_": ["COMPLETED"]}}}

    def completed() -> dict[str, Any] | None:
        runs = prefect.post("/flow_runs/filter", flow_runs=wanted)
        return next((run for run in runs if run["auto_scheduled"]), None)

    run = eventually(completed, within_s=300, what=f"a scheduled run of {deployment}")
    for schedule in found["schedules"]:
        prefect.ask("DELETE", f"/deployments/{found['id']}/schedules/{schedule['id']}")
    return run


def events(run: Path) -> list[dict[str, Any]]:
    """Every line of the run's stream; each must be whole JSON."""
    return [json.loads(line) for line in (run / "progress.ndjson").read_text(encoding="utf-8").splitlines()]


def ended(run: Path, *, within_s: float = 120.0) -> dict[str, Any]:
    """The run's end, checked against the contract: ``final.json`` is there when the only terminal line, the last one, is."""

    def terminal_line() -> dict[str, Any] | None:
        text = (run / "progress.ndjson").read_text(encoding="utf-8") if (run / "progress.ndjson").exists() else ""
        last = json.loads(text.splitlines()[-1]) if text.endswith("\n") else {}
        return last if last.get("event") in {"run_completed", "run_failed"} else None

    line = eventually(terminal_line, within_s=within_s, what="the terminal line")
    final = json.loads((run / "final.json").read_text(encoding="utf-8"))
    assert (run / "run.tgz").exists()
    assert [event["event"] for event in events(run)].count(line["event"]) == 1
    assert final["status"] == line["status"]
    assert final.get("failure_reason", "") == line.get("reason", "")
    return final


def recorded_pids(run: Path) -> list[int]:
    """Process ids of the children that the run's stages started."""
    return [json.loads(path.read_text())["pid"] for path in run.glob("*/process-*.json")]


def is_alive(pid: int) -> bool:
    """Whether a process of this id runs; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A git repository with one commit."""
    path = tmp_path / "repository"
    path.mkdir()
    (path / "README.md").write_text("A project.\n", encoding="utf-8")
    identity = ("-c", "user.name=Test", "-c", "user.email=test@localhost")
    for arguments in (("init", "--quiet", "--initial-branch=main"), ("add", "--all"), ("commit", "--quiet", "--message=one")):
        subprocess.run(["git", *identity, *arguments], cwd=path, check=True)
    return path
