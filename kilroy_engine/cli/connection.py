"""Which Prefect server a run is recorded on, and being ready to use it as early as possible.

Importing Prefect takes longer than a second and starting a server several, so both begin as soon as they can and side by side.
"""

from __future__ import annotations

import gc
import logging
import os
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from kilroy_engine.rundir.files.layout import runs_root
from kilroy_engine.server.api_address import api_is_surely_unconfigured, check_api, configured_api_url

if TYPE_CHECKING:
    from kilroy_engine.server.local_server import LocalServer, ServerStart


def server_state_dir(environ: Mapping[str, str]) -> Path:
    """Folder of the local server: ``${XDG_STATE_HOME:-~/.local/state}/kilroy/server``. Moving the runs does not move it."""
    state = {name: value for name, value in environ.items() if name != "KILROY_RUNS_ROOT"}
    return runs_root(state).parents[1] / "server"


NO_SERVER = "http://127.0.0.1:9/api"
"""Nobody listens on the discard port: an address for Prefect where there is no server, or it would start one of its own."""


_PREFECTS_SENDERS = ("EventsWorker", "APILogWorker")
"""Prefect's threads that send events and log lines. They warn at the end of a process of everything that they have yet to
send, which they then do."""


class Connection:
    """The way to the configured Prefect API or, where none is configured, to the local server."""

    def __init__(self, on_status: Callable[[str], None]) -> None:
        for name in _PREFECTS_SENDERS:
            logging.getLogger(name).setLevel(logging.ERROR)
        self._on_status = on_status
        self._local = api_is_surely_unconfigured(os.environ, Path.cwd())
        self._start: ServerStart | None = None

    def begin(self) -> None:
        """Starts the local server if it is certain that it will be needed. Comes back at once.

        Raises:
            ServerError: it cannot be started.
        """
        if self._local:
            from kilroy_engine.server.local_server import begin_server

            # Else Prefect's import reports its first use to its makers, and says so in the middle of the output. With a server
            # of the user's own this is between the user and Prefect.
            os.environ.setdefault("DO_NOT_TRACK", "1")
            self._start = begin_server(state_dir=server_state_dir(os.environ), on_status=self._on_status)

    def enter(self) -> None:
        """Imports Prefect and makes this process use a server that answers.

        Raises:
            ServerError: the configured server cannot be used, or the local one does not start.
        """
        _import_prefect()
        if self._start is not None:
            _use(self._start.wait_ready())
        elif url := configured_api_url():
            check_api(url)
        else:
            from kilroy_engine.server.local_server import ensure_server

            _use(ensure_server(state_dir=server_state_dir(os.environ), on_status=self._on_status))

    def enter_if_reachable(self) -> None:
        """Makes this process use the configured server, or the local one if it runs; starts none and raises nothing.

        Where there is no server, requests fail at once as those to one that does not answer.
        """
        if configured_api_url():
            return
        from kilroy_engine.server.local_server import LocalServer, server_status

        server = server_status(server_state_dir(os.environ)).server
        _use(server or LocalServer(NO_SERVER, "", 0, started=False))

    def check(self) -> str:
        """Makes sure that there is a server, without starting one: its URL, or "local".

        Raises:
            ServerError: the configured server cannot be used.
        """
        url = "" if self._local else configured_api_url()
        if url:
            check_api(url)
        return url or "local"


def _import_prefect() -> None:
    """Prefect makes a million objects that stay: not collecting in between saves a seventh of the time."""
    gc.disable()
    try:
        import_module("kilroy_engine.orchestration.flows.launch")
    finally:
        gc.freeze()
        gc.enable()


def _use(server: LocalServer) -> None:
    """Child processes get the address by the environment; Prefect, imported by now, has to look at it again."""
    from prefect.context import refresh_global_settings_context

    from kilroy_engine.server.local_server import client_environment

    os.environ.update(client_environment(server))
    refresh_global_settings_context()
