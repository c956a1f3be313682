"""What a running local server leaves on disk, and asking that server whether it is still the one.

``server.json`` says where a server listens; only the server's own answer says that it still does. A pid may be reused and a
port may be taken by another program, so both are checked against the ``instance`` that the server was started with.
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
IDENTITY_PATH = "/.kilroy/server"  # answered by the launched process itself, never by Prefect

_START_TIME_TOLERANCE_S = 2.0  # the operating system derives it from the boot time, which moves when the clock is set


@dataclass(frozen=True)
class ServerPaths:
    """The files of one local server. Each Prefect version has its own, so that two versions never share a database."""

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
    """Content of ``server.json``. ``process_started_at`` (seconds since the epoch) tells a reused pid from the real one."""

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
        """The record of a process that was started a moment ago.

        Raises:
            psutil.Error: the process is already gone.
        """
        origin = f"http://{LOOPBACK}:{port}"
        return cls(
            instance=instance,
            pid=pid,
            process_started_at=psutil.Process(pid).create_time(),
            started_at=datetime.now(UTC),
            port=port,
            api_url=f"{origin}/api",
            ui_url=f"{origin}/v2",  # the deep links of Prefect's second UI; without the prefix they open the first one
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
        """None when there is no record or none that can be used; whoever holds the lock then replaces it."""
        try:
            return cls.model_validate_json(path.read_bytes())
        except (OSError, ValidationError):
            return None

    def process(self) -> psutil.Process | None:
        """The server's process if it lives, never another one that got its pid."""
        try:
            process = psutil.Process(self.pid)
            same = abs(process.create_time() - self.process_started_at) <= _START_TIME_TOLERANCE_S
            return process if same and process.status() != psutil.STATUS_ZOMBIE else None
        except psutil.Error:
            return None


class ServerAnswer(BaseModel):
    """What a server says of itself: seconds without use, the limit, requests and websockets open, events not yet recorded."""

    model_config = ConfigDict(frozen=True)

    instance: str
    pid: int
    idle_s: float
    idle_limit_s: float
    open_connections: int
    pending_events: int
    ending: bool


def ask(record: ServerRecord, timeout_s: float, *, claim: bool = False) -> ServerAnswer | None:
    """Asks the port of ``record`` who listens there. None unless it is that very server and it is ready.

    ``claim`` says that the caller is about to use it, which begins its idle time anew.

    A server that is starting already listens but does not answer: the call then lasts ``timeout_s``, or until it is ready.
    """
    connection = http.client.HTTPConnection(LOOPBACK, record.port, timeout=timeout_s)
    try:
        connection.request("GET", IDENTITY_PATH + ("?claim" if claim else ""))
        response = connection.getresponse()
        if response.status != http.HTTPStatus.OK:
            return None
        answer = ServerAnswer.model_validate_json(response.read())
    except (OSError, http.client.HTTPException, ValidationError):
        return None  # nobody, somebody else, or not ready: the caller tells these apart by the lock
    finally:
        connection.close()
    return answer if answer.instance == record.instance else None
