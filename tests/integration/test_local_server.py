"""The local Prefect server: started once, found again, stopped without a loss. Every server here is a real one."""

from __future__ import annotations

import json
import os
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit
from uuid import uuid4

import httpx
import psutil
import pytest
from websockets.sync.client import connect

from kilroy_engine.errors import ServerError
from kilroy_engine.server.local_server import (
    LocalServer,
    begin_server,
    client_environment,
    ensure_server,
    server_status,
    stop_server,
)
from kilroy_engine.server.record import ServerPaths, ServerRecord

ROOT = Path(__file__).resolve().parents[2]

STEPS = """
import sys
from prefect import flow, task

@task
def step(number):
    return number

@flow
def steps():
    for number in range(int(sys.argv[1])):
        step(number)
    return step.name

state = steps(return_state=True)
print(state.state_details.flow_run_id)
"""

SECRET_BLOCK = """
from prefect.blocks.system import Secret
Secret(value="s3cret").save("token")
print(Secret.load("token").get())
"""

START = """
import sys
from pathlib import Path
from kilroy_engine.server.local_server import ensure_server
server = ensure_server(state_dir=Path(sys.argv[1]), on_status=lambda line: None)
print(server.pid, server.started)
"""


def silent(line: str) -> None:
    """A caller that shows nothing."""


def wait_for(condition: Callable[[], bool], timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {timeout_s} s"
        time.sleep(0.05)


def environment(home: Path, **extra: str) -> dict[str, str]:
    """That of a user who has never used Prefect."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "KILROY_"))}
    return kept | {"HOME": str(home), "PYTHONPATH": str(ROOT)} | extra


def python(program: str, *arguments: str, env: dict[str, str]) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", program, *arguments]
    return subprocess.Popen(command, env=env, cwd=env["HOME"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def output_of(process: subprocess.Popen[str], timeout_s: float = 60.0) -> str:
    out, err = process.communicate(timeout=timeout_s)
    assert process.returncode == 0, err
    return out.strip()


def paths_in(state_dir: Path) -> ServerPaths:
    (directory,) = [entry for entry in state_dir.iterdir() if entry.is_dir()]
    return ServerPaths(directory)


def listening_addresses(pid: int) -> set[str]:
    return {each.laddr.ip for each in psutil.Process(pid).net_connections(kind="inet") if each.status == psutil.CONN_LISTEN}


@contextmanager
def stopped_afterwards(state_dir: Path) -> Iterator[None]:
    try:
        yield
    finally:
        stop_server(state_dir)


@pytest.fixture(scope="module")
def user_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("user")


@pytest.fixture(scope="module")
def state_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("state") / "kilroy" / "server"


@pytest.fixture(scope="module")
def server(state_dir: Path, user_home: Path) -> Iterator[LocalServer]:
    """A first server ever, started by a user whose own Prefect settings must not reach it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(user_home))
        patch.setenv("PREFECT_SERVER_ANALYTICS_ENABLED", "true")
        patch.setenv("PREFECT_HOME", str(user_home / ".prefect"))
        lines: list[str] = []
        started = ensure_server(state_dir=state_dir, on_status=lines.append)
    assert [line.split(":")[0] for line in lines] == [
        "Starting a local Prefect server (log",
        "Started the local Prefect server",
    ]
    with stopped_afterwards(state_dir):
        yield started


def get(server: LocalServer, path: str) -> bytes:
    with closing(HTTPConnection(server.api_url.split("/")[2], timeout=10)) as connection:
        connection.request("GET", path, headers={"Accept": "text/html,application/json"})
        response = connection.getresponse()
        assert response.status == 200, f"{path}: {response.status}"
        return response.read()


def test_a_first_start_gives_a_healthy_server_and_its_record(server: LocalServer, state_dir: Path) -> None:
    """Prefect's own health check, the pages of the second UI and server.json all speak of the same server."""
    assert server.started
    assert json.loads(get(server, "/api/health")) is True
    assert b"<html" in get(server, f"{urlsplit(server.ui_url).path}/runs/flow-run/{uuid4()}")
    assert json.loads(get(server, "/ui-settings"))["api_url"] == server.api_url
    record = ServerRecord.read(paths_in(state_dir).record)
    assert record is not None
    assert (record.pid, record.api_url, record.ui_url) == (server.pid, server.api_url, server.ui_url)
    assert record.database.is_file()
    assert abs(psutil.Process(server.pid).create_time() - record.process_started_at) < 0.1


def test_the_server_listens_on_the_loopback_interface_only(server: LocalServer) -> None:
    """The API asks for no password: no other machine may reach it."""
    assert listening_addresses(server.pid) == {"127.0.0.1"}


def test_the_server_is_detached_from_its_starter(server: LocalServer, state_dir: Path) -> None:
    """Its own session, no terminal, and its own directory as working directory."""
    assert os.getsid(server.pid) == server.pid
    assert psutil.Process(server.pid).terminal() is None
    assert psutil.Process(server.pid).cwd() == str(paths_in(state_dir).home)


def test_the_users_own_prefect_is_neither_used_nor_changed(server: LocalServer, state_dir: Path, user_home: Path) -> None:
    """Settings of the caller do not reach the server, and the server writes nothing to the caller's Prefect home."""
    settings = json.loads(get(server, "/api/admin/settings"))
    assert settings["home"] == str(paths_in(state_dir).home)
    assert settings["server"]["analytics_enabled"] is False
    assert (
        settings["server"]["services"]["task_run_recorder"] | {"batch_size": 50, "flush_interval": 1.0}
        == (settings["server"]["services"]["task_run_recorder"])
    )
    assert not (user_home / ".prefect").exists()


def test_a_second_caller_uses_the_running_server(server: LocalServer, state_dir: Path) -> None:
    """No second process, no new record, and no wait."""
    before = paths_in(state_dir).record.read_bytes()
    begun = time.monotonic()
    again = ensure_server(state_dir=state_dir, on_status=silent)
    assert time.monotonic() - begun < 1.0
    assert (again.pid, again.api_url, again.started) == (server.pid, server.api_url, False)
    assert paths_in(state_dir).record.read_bytes() == before


def test_a_port_taken_by_another_program_is_not_mistaken_for_the_server(server: LocalServer, state_dir: Path) -> None:
    """An answer counts only with the instance of the record; the true server is then the one that holds the lock."""
    paths = paths_in(state_dir)
    true_record = ServerRecord.read(paths.record)
    assert true_record is not None
    try:
        true_record.model_copy(update={"instance": "another"}).write(paths.record)
        with pytest.raises(ServerError, match="did not answer"):
            ensure_server(state_dir=state_dir, on_status=silent, timeout_s=0.5)
    finally:
        true_record.write(paths.record)
    assert ensure_server(state_dir=state_dir, on_status=silent).pid == server.pid


def test_secret_blocks_can_be_saved_and_loaded(server: LocalServer, user_home: Path) -> None:
    """Users keep tokens in Secret blocks; the database that the server began with must know the block type."""
    env = environment(user_home, **client_environment(server))
    assert output_of(python(SECRET_BLOCK, env=env)) == "s3cret"


def test_status_tells_of_the_running_server(server: LocalServer, state_dir: Path) -> None:
    """Asking is not use: the idle time goes on."""
    first = server_status(state_dir)
    assert first.server is not None
    assert first.answer is not None
    assert (first.server.pid, first.answer.idle_limit_s) == (server.pid, 3600.0)
    wait_for(lambda: (later := server_status(state_dir).answer) is not None and later.idle_s > 0.2, 10.0)


@dataclass(frozen=True)
class Race:
    """Two first runs at once: what each got, and where."""

    state_dir: Path
    env: dict[str, str]
    results: list[tuple[str, str]]


@pytest.fixture(scope="module")
def race(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Race]:
    home = tmp_path_factory.mktemp("race")
    state_dir, env = home / "state", environment(home)
    with stopped_afterwards(state_dir):
        runs = [python(START, str(state_dir), env=env) for _ in range(2)]
        outputs = [output_of(run).split() for run in runs]
        yield Race(state_dir, env, [(pid, started) for pid, started in outputs])


def test_two_first_runs_at_once_start_one_server(race: Race) -> None:
    """The lock lets one of them start it; the other waits for the same server."""
    (first_pid, first_started), (second_pid, second_started) = race.results
    assert first_pid == second_pid
    assert {first_started, second_started} == {"True", "False"}


def test_a_stop_loses_no_task_run_and_a_run_that_begins_meanwhile_gets_a_new_server(race: Race) -> None:
    """Stopped right after a flow, the server first records all of its task runs and states, and is not handed out meanwhile."""
    old = ensure_server(state_dir=race.state_dir, on_status=silent)
    count = 300  # enough to have events in memory when the signal comes: without waiting for them a fifth would be lost
    flow_run_id = output_of(python(STEPS, str(count), env=race.env | client_environment(old)))
    psutil.Process(old.pid).terminate()
    wait_for(lambda: (status := server_status(race.state_dir)).answer is None or status.answer.ending, 10.0)
    new = ensure_server(state_dir=race.state_dir, on_status=silent)
    assert new.started
    assert new.pid != old.pid
    with closing(sqlite3.connect(paths_in(race.state_dir).database)) as database:
        runs = database.execute(
            "SELECT state_type, count(*) FROM task_run WHERE replace(flow_run_id, '-', '') = ? GROUP BY 1",
            [flow_run_id.replace("-", "")],
        ).fetchall()
        (states,) = database.execute("SELECT count(*) FROM task_run_state").fetchone()
        (events,) = database.execute("SELECT count(*) FROM events WHERE event LIKE 'prefect.task-run.%'").fetchone()
    assert runs == [("COMPLETED", count)]
    assert (states, events) == (3 * count, 3 * count)  # Pending, Running and Completed


def test_an_unused_server_ends_and_its_leftovers_are_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A record whose pid now belongs to somebody else is replaced; an open websocket is use; without use the server ends."""
    monkeypatch.setenv("KILROY_SERVER_IDLE_S", "1.5")
    state_dir = tmp_path / "state"
    begun = begin_server(state_dir=state_dir, on_status=silent)
    paths = paths_in(state_dir)
    leftover = ServerRecord.read(paths.record)
    assert leftover is not None
    psutil.Process(leftover.pid).kill()
    with pytest.raises(ServerError, match="exit code -9"):
        begun.wait_ready(20.0)
    leftover.model_copy(update={"pid": os.getpid()}).write(paths.record)  # alive, but not the process of the record
    assert server_status(state_dir).server is None
    assert not stop_server(state_dir)

    with stopped_afterwards(state_dir):
        server = ensure_server(state_dir=state_dir, on_status=silent)
        assert server.started
        assert server.pid not in (leftover.pid, os.getpid())
        assert server.api_url == leftover.api_url  # links that were printed before stay good
        with connect(server.api_url.replace("http", "ws", 1) + "/events/in"):
            opened = time.monotonic()
            wait_for(lambda: time.monotonic() - opened > 3.0, 10.0)
            assert psutil.pid_exists(server.pid)
        wait_for(lambda: server_status(state_dir).server is None, 20.0)


def test_a_state_directory_that_cannot_be_written_is_one_clear_error(tmp_path: Path) -> None:
    """The message names the directory and the way out."""
    (tmp_path / "file").write_text("")
    with pytest.raises(ServerError, match=r"cannot be started: .*file.*PREFECT_API_URL"):
        ensure_server(state_dir=tmp_path / "file", on_status=silent)


@pytest.mark.parametrize("text", ["soon", "0", "-1", "nan"])
def test_an_idle_time_that_is_none_is_refused_before_anything_starts(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Zero would end the server before its first use."""
    monkeypatch.setenv("KILROY_SERVER_IDLE_S", text)
    with pytest.raises(ServerError, match="KILROY_SERVER_IDLE_S"):
        ensure_server(state_dir=tmp_path, on_status=silent)
    assert not server_status(tmp_path).server


CHECK = """
import sys
from kilroy_engine.errors import ServerError
from kilroy_engine.server.api_address import check_api, configured_api_url
try:
    check_api(configured_api_url())
    print("serves")
except ServerError as error:
    print(error.url, error)
"""


def test_a_configured_api_is_checked_and_never_replaced(server: LocalServer, tmp_path: Path) -> None:
    """A server that answers is accepted; a closed port and a server without an API are errors with the URL and the way out."""
    with closing(socket.create_server(("127.0.0.1", 0))) as closed:
        nobody = f"http://127.0.0.1:{closed.getsockname()[1]}/api"
    no_api = server.api_url.removesuffix("/api")
    urls = [server.api_url, nobody, no_api]
    checks = [python(CHECK, env=environment(tmp_path, PREFECT_API_URL=url)) for url in urls]
    serves, refused, misled = map(output_of, checks)
    assert serves == "serves"
    assert refused.startswith(f"{nobody} The configured Prefect API at {nobody} cannot be used")
    assert misled.startswith(f"{no_api} The configured Prefect API at {no_api} answered with HTTP 404")


def test_slots_of_concurrency_limits_outlast_a_restart(tmp_path: Path) -> None:
    """Whoever holds a slot renews it at the next server, and gives it back there. Kept in memory it would be taken for ever."""
    state_dir = tmp_path / "server"
    with stopped_afterwards(state_dir):
        first = ensure_server(state_dir=state_dir, on_status=silent)
        with httpx.Client(base_url=first.api_url, timeout=30) as http:
            http.post("/concurrency_limits/", json={"tag": "model:opus", "concurrency_limit": 1}).raise_for_status()
            wanted = {"names": ["tag:model:opus"], "slots": 1, "lease_duration": 600}
            lease = http.post("/v2/concurrency_limits/increment-with-lease", json=wanted).json()["lease_id"]
        stop_server(state_dir)
        second = ensure_server(state_dir=state_dir, on_status=silent)
        with httpx.Client(base_url=second.api_url, timeout=30) as http:
            renewed = http.post(f"/v2/concurrency_limits/leases/{lease}/renew", json={"lease_duration": 60})
            assert renewed.status_code == httpx.codes.NO_CONTENT
            http.post("/v2/concurrency_limits/decrement-with-lease", json={"lease_id": lease}).raise_for_status()
            assert http.get("/v2/concurrency_limits/tag:model:opus").json()["active_slots"] == 0
