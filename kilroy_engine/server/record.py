"""The files of a local server, its record ``server.json``, and the request that asks a server for its identity.

``server.json`` says where a server listened when it started. The pid may be reused and the port may be taken by another
program. So the server's answer must hold the ``instance`` that the record names.
"""

from __future__ import annotations

import http.client
import os
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import psutil
from pydantic import AwareDatetime, BaseModel, ConfigDict, ValidationError

LOOPBACK = "127.0.0.1"
IDENTITY_PATH = "/.kilroy/server"  # answered by ``local_server_main``, not by Prefect

_START_TIME_TOLERANCE_S = 2.0  # a process's start time counts from the boot time, which moves when the clock is set


@dataclass(frozen=True)
class ServerPaths:
    """The files of one local server. Each Prefect version has its own files, so that two versions never share a database."""

    directory: Path

    @classmethod
    def of(cls, state_dir: Path, prefect_version: str) -> ServerPaths:
        return cls(state_dir.absolute() / prefect_version)

    @property
    def record(self) -> Path:
        return self.directory / "server.json"

    @property
    def lock(self) -> Path:
        return self.directory / "server.lock"

    @property
    def log(self) -> Path:
        return self.directory / "server.log"

    @property
    def home(self) -> Path:
        return self.directory / "home"

    @property
    def database(self) -> Path:
        return self.home / "prefect.db"


class ServerRecord(BaseModel):
    """Content of ``server.json``. ``process_started_at`` (seconds since the epoch) shows whether the pid was reused."""

    model_config = ConfigDict(frozen=True)

    instance: str
    pid: int
    process_started_at: float
    started_at: AwareDatetime
    port: int
    api_url: str
    ui_url: str
    prefect_version: str
    database: Path

    @classmethod
    def of_process(cls, pid: int, *, instance: str, port: int, prefect_version: str, database: Path) -> ServerRecord:
        """Makes the record of a server process. Called once, after the process was started.

        Raises:
            psutil.Error: The process is already gone.
        """
        origin = f"http://{LOOPBACK}:{port}"
        return cls(
            instance=instance,
            pid=pid,
            process_started_at=psutil.Process(pid).create_time(),
            started_at=datetime.now(UTC),
            port=port,
            api_url=f"{origin}/api",
            ui_url=f"{origin}/v2",  # links of Prefect's second UI; without the prefix they open the first UI
            prefect_version=prefect_version,
            database=database,
        )

    def write(self, path: Path) -> None:
        """Replaces the file in one step: a reader sees the old record or the new one."""
        draft = path.with_suffix(f".{os.getpid()}.tmp")
        draft.write_text(self.model_dump_json(indent=2) + "\n", encoding="utf-8")
        draft.replace(path)

    @classmethod
    def read(cls, path: Path) -> ServerRecord | None:
        """Reads the record. None when there is no record or it is damaged; the next start replaces the record."""
        try:
            return cls.model_validate_json(path.read_bytes())
        except (OSError, ValidationError):
            return None

    def process(self) -> psutil.Process | None:
        """The server's process; None when the process is gone or another process has its pid."""
        try:
            process = psutil.Process(self.pid)
            same = abs(process.create_time() - self.process_started_at) <= _START_TIME_TOLERANCE_S
            return process if same and process.status() != psutil.STATUS_ZOMBIE else None
        except psutil.Error:
            return None


class ServerAnswer(BaseModel):
    """A server's answer about itself. ``idle_s`` is the time without use, ``open_connections`` counts requests and websockets.

    ``pending_events`` are not recorded yet. ``ending`` is true when the server is about to stop.
    """

    model_config = ConfigDict(frozen=True)

    instance: str
    pid: int
    idle_s: float
    idle_limit_s: float
    open_connections: int
    pending_events: int
    ending: bool


def ask(record: ServerRecord, timeout_s: float, *, claim: bool = False) -> ServerAnswer | None:
    """Asks the server of ``record`` for its identity. None unless exactly that server answers within ``timeout_s`` seconds.

    ``claim`` says that the caller is about to use the server, which restarts the server's idle time. A server that is starting
    already listens but does not answer, so the call lasts until the server is ready or the time is over.
    """
    connection = http.client.HTTPConnection(LOOPBACK, record.port, timeout=timeout_s)
    try:
        connection.request("GET", IDENTITY_PATH + ("?claim" if claim else ""))
        response = connection.getresponse()
        if response.status != http.HTTPStatus.OK:
            return None
        answer = ServerAnswer.model_validate_json(response.read())
    except (OSError, http.client.HTTPException, ValidationError):
        return None  # no server, another program, or not ready: the caller finds out by the lock
    finally:
        connection.close()
    return answer if answer.instance == record.instance else None
