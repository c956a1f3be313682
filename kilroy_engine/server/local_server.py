"""Starts, finds and stops the local Prefect server, which ``kilroy run`` starts when no API is configured.

Prefect's own ephemeral server is started by every process and stopped before it has recorded the last task runs. The local
server is a detached process on the loopback interface, which later runs use again. Its Prefect home is its own, so the server
neither reads nor changes the user's Prefect profile. The server ends after an idle hour (``KILROY_SERVER_IDLE_S``). This module
does not import Prefect, so that the caller can import Prefect while the server starts.

Below the state directory each Prefect version has a directory with ``server.json``, ``server.lock``, ``server.log`` and
``home/``. The server process holds the lock file for its whole life, so a free lock means that no server runs.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import psutil

from kilroy_engine.errors import ServerError
from kilroy_engine.locks import locked
from kilroy_engine.server.database import block_types_are_shipped, seed_database
from kilroy_engine.server.record import IDENTITY_PATH, LOOPBACK, ServerAnswer, ServerPaths, ServerRecord, ask
from kilroy_engine.threads import start_thread

START_TIMEOUT_S = 90.0  # a first start without a template, on a slow disk
DRAIN_TIMEOUT_S = 60.0  # enough for ten thousand events: the server writes about 180 a second
STOP_TIMEOUT_S = DRAIN_TIMEOUT_S + 15.0
IDLE_LIMIT_S = 3600.0

_PROGRAM = Path(__file__).with_name("local_server_main.py")
_GLANCE_TIMEOUT_S = 0.25  # a ready server answers within milliseconds; a server that starts would keep the caller waiting
_ASK_TIMEOUT_S = 2.0  # enough for a server with a busy event loop
_POLL_S = 0.02
_LOG_TAIL_LINES = 15


@dataclass(frozen=True)
class LocalServer:
    """A running local server. ``started`` is true when this process started the server."""

    api_url: str
    ui_url: str
    pid: int
    started: bool


@dataclass(frozen=True)
class ServerStatus:
    """The state of the local server. ``server`` is None when none runs. ``answer`` is None when the server does not answer."""

    server: LocalServer | None
    answer: ServerAnswer | None
    prefect_version: str
    database: Path
    log: Path


class ServerStart:
    """A local server that runs, or that this process or another process is starting. Made by :func:`begin_server`."""

    def __init__(self, paths: ServerPaths, on_status: Callable[[str], None]) -> None:
        self._paths = paths
        self._on_status = on_status
        self._process: subprocess.Popen[bytes] | None = None
        self._ready: LocalServer | None = None
        self._find_or_launch()

    def wait_ready(self, timeout_s: float = START_TIMEOUT_S) -> LocalServer:
        """Waits until the server answers.

        Raises:
            ServerError: The server ended while starting, or did not answer within ``timeout_s`` seconds. The message holds the
                end of the server's log.
        """
        deadline = time.monotonic() + timeout_s
        while self._ready is None:
            remaining_s = deadline - time.monotonic()
            if remaining_s <= 0:
                raise self._failure(f"did not answer within {timeout_s:g} s")
            if self._process is not None and self._process.poll() is not None:
                raise self._failure(f"ended with exit code {self._process.returncode} while starting")
            if not self._take_if_ready(remaining_s):
                time.sleep(_POLL_S)
                if self._process is None:
                    self._find_or_launch()  # the process that was starting or stopping the server may be gone
        return self._ready

    def _find_or_launch(self) -> None:
        if self._take_if_ready(_GLANCE_TIMEOUT_S):
            return
        paths = self._paths
        try:
            paths.home.mkdir(parents=True, exist_ok=True, mode=0o700)
            lock_fd = os.open(paths.lock, os.O_RDWR | os.O_CREAT, 0o600)
            with locked(lock_fd) as mine:
                # Asks again under the lock: another process may have been faster, and some network file systems share no locks.
                if mine and not self._take_if_ready(_ASK_TIMEOUT_S):
                    self._process = _launch(paths, lock_fd)
                    self._on_status(f"Starting a local Prefect server (log: {paths.log})")
        except (OSError, psutil.Error) as error:
            raise ServerError(
                f"The local Prefect server cannot be started: {error}. "
                f"Make {paths.directory} writable, or set PREFECT_API_URL to use a server of your own.{_tail(paths.log)}"
            ) from error

    def _take_if_ready(self, timeout_s: float) -> bool:
        record = ServerRecord.read(self._paths.record)
        answer = ask(record, timeout_s, claim=True) if record else None
        if record is None or answer is None or answer.ending:
            return False
        self._ready = LocalServer(record.api_url, record.ui_url, answer.pid, started=self._process is not None)
        how = "Started" if self._process else "Using"
        unused = "an idle hour" if answer.idle_limit_s == IDLE_LIMIT_S else f"{answer.idle_limit_s:g} idle seconds"
        self._on_status(f"{how} the local Prefect server: {record.ui_url} (it stops after {unused})")
        return True

    def _failure(self, what: str) -> ServerError:
        record = ServerRecord.read(self._paths.record)
        return ServerError(
            f"The local Prefect server {what}. Its log is {self._paths.log}; set PREFECT_API_URL to use a server of your own."
            f"{_tail(self._paths.log)}",
            url=record.api_url if record else "",
        )


def begin_server(*, state_dir: Path, on_status: Callable[[str], None]) -> ServerStart:
    """Finds the local server of the installed Prefect version, or starts one. Does not wait until the server is ready.

    Call it before ``import prefect``, import Prefect and do other work, then call :meth:`ServerStart.wait_ready`.
    ``on_status`` is called with lines for the user.

    Raises:
        ServerError: The state directory cannot be written or the process cannot be started.
    """
    return ServerStart(ServerPaths.of(state_dir, version("prefect")), on_status)


def ensure_server(*, state_dir: Path, on_status: Callable[[str], None], timeout_s: float = START_TIMEOUT_S) -> LocalServer:
    """Finds or starts the local server and waits until it is ready. Raises ServerError as :func:`begin_server` does."""
    return begin_server(state_dir=state_dir, on_status=on_status).wait_ready(timeout_s)


def server_status(state_dir: Path) -> ServerStatus:
    """The state of the local server. Starts no server, and the request does not count as use of the server."""
    prefect_version = version("prefect")
    paths = ServerPaths.of(state_dir, prefect_version)
    record = ServerRecord.read(paths.record)
    answer = ask(record, _ASK_TIMEOUT_S) if record else None
    lives = record is not None and (answer is not None or record.process() is not None)
    server = LocalServer(record.api_url, record.ui_url, record.pid, started=False) if record and lives else None
    return ServerStatus(server, answer, prefect_version, paths.database, paths.log)


def stop_server(state_dir: Path, *, timeout_s: float = STOP_TIMEOUT_S) -> bool:
    """Stops the local server and waits for its end. The server first records the events that it holds. False if none ran.

    Raises:
        ServerError: The server did not end within ``timeout_s`` seconds.
    """
    paths = ServerPaths.of(state_dir, version("prefect"))
    record = ServerRecord.read(paths.record)
    process = record.process() if record else None
    if record is None or process is None:
        return False
    try:
        process.send_signal(signal.SIGTERM)
    except psutil.NoSuchProcess:
        return False
    deadline = time.monotonic() + timeout_s
    while record.process() is not None:
        if time.monotonic() > deadline:
            raise ServerError(
                f"The local Prefect server (pid {record.pid}) did not end within {timeout_s:g} s. Its log is {paths.log}; "
                f"end it with `kill -9 {record.pid}` if nothing uses it.",
                url=record.api_url,
            )
        time.sleep(_POLL_S)
    return True


def client_environment(server: LocalServer) -> dict[str, str]:
    """Environment variables for a process that uses ``server``. Set the variables before that process imports Prefect."""
    return {"PREFECT_API_URL": server.api_url, "PREFECT_UI_URL": server.ui_url}


def _launch(paths: ServerPaths, lock_fd: int) -> subprocess.Popen[bytes]:
    """Starts the server process, which inherits the lock and a listening socket, and writes ``server.json``."""
    prefect_version = version("prefect")
    seed_database(paths, prefect_version)
    if paths.log.exists():
        paths.log.replace(paths.log.with_suffix(".log.1"))
    previous = ServerRecord.read(paths.record)
    instance = uuid.uuid4().hex
    with _listen(previous.port if previous else 0) as listening, paths.log.open("wb") as log:
        port = int(listening.getsockname()[1])
        orders = {
            "listening_fd": listening.fileno(),
            "lock_fd": lock_fd,
            "instance": instance,
            "identity_path": IDENTITY_PATH,
            "idle_limit_s": _idle_limit_s(os.environ),
            "drain_timeout_s": DRAIN_TIMEOUT_S,
        }
        process = subprocess.Popen(
            # By path and with -P: Python imports no package of the engine, and finds no modules in a directory of the caller.
            [sys.executable, "-P", str(_PROGRAM), json.dumps(orders)],
            env=_server_environment(os.environ, paths.home, port),
            cwd=paths.home,  # no prefect.toml, .env or pyproject.toml of the caller, and the caller's directory stays removable
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,  # Ctrl-C or hang-up of the caller's terminal must not reach the server
            pass_fds=(listening.fileno(), lock_fd),
        )
    # Reaps the server's process if it ends before this process, and keeps the exit code.
    start_thread(process.wait, name="kilroy-server-reaper")
    try:
        record = ServerRecord.of_process(
            process.pid, instance=instance, port=port, prefect_version=prefect_version, database=paths.database
        )
        record.write(paths.record)
    except BaseException:  # Ctrl-C too: a server without a record would hold the lock, and no process could find it
        process.kill()
        raise
    return process


def _server_environment(caller: Mapping[str, str], home: Path, port: int) -> dict[str, str]:
    """Environment of the server process: the caller's without Prefect's settings, plus the server's own settings."""
    origin = f"http://{LOOPBACK}:{port}"
    settings = {
        "PREFECT_HOME": str(home),
        "PREFECT_SERVER_API_HOST": LOOPBACK,
        "PREFECT_SERVER_API_PORT": str(port),
        "PREFECT_UI_API_URL": f"{origin}/api",  # otherwise the pages in the browser ask Prefect's default port
        "PREFECT_UI_URL": f"{origin}/v2",
        "PREFECT_UI_STATIC_DIRECTORY": str(home / "ui"),  # otherwise Prefect writes into the installed package
        "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
        # Only the server's own pages: by default any web page that the user visits may read and change the runs.
        "PREFECT_SERVER_CORS_ALLOWED_ORIGINS": f"{origin},http://localhost:{port}",
        # One transaction for 50 events instead of one per event, which takes a third of the server's time per task run.
        # The interval is in whole seconds.
        "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_BATCH_SIZE": "50",
        "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_FLUSH_INTERVAL": "1",
        # Leases on concurrency slots are kept on disk: leases in memory are lost at a restart, and their slots stay taken.
        "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem",
    }
    if block_types_are_shipped(
        version("prefect")
    ):  # a second of work; a client that saves a block of another package registers it
        settings |= {"PREFECT_API_BLOCKS_REGISTER_ON_START": "false", "PREFECT_MEMOIZE_BLOCK_AUTO_REGISTRATION": "false"}
    return {name: value for name, value in caller.items() if not name.upper().startswith("PREFECT_")} | settings


def _idle_limit_s(caller: Mapping[str, str]) -> float:
    text = caller.get("KILROY_SERVER_IDLE_S", "")
    try:
        limit_s = float(text) if text else IDLE_LIMIT_S
    except ValueError:
        limit_s = 0.0
    if not limit_s > 0:
        raise ServerError(f"KILROY_SERVER_IDLE_S is {text!r}: it must be a number of seconds above 0.")
    return limit_s


def _listen(preferred_port: int) -> socket.socket:
    """A listening socket on the loopback interface. Takes the previous server's port if it is free, so that old links work."""
    for port in (preferred_port, 0):
        listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # allows a port whose connections were just closed
        try:
            listening.bind((LOOPBACK, port))
            listening.listen(128)
            return listening
        except OSError:
            listening.close()
            if port == 0:
                raise
    raise AssertionError("the loop either returns or raises")


def _tail(log: Path) -> str:
    try:
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()[-_LOG_TAIL_LINES:]
    except OSError:
        return ""
    return "".join(f"\n  {line}" for line in lines)
