"""Connects a command with a Prefect server: the configured one, or the local server.

Importing Prefect takes more than a second and starting a server takes several, so both go on at the same time.
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
    """Folder of the local server: ``${XDG_STATE_HOME:-~/.local/state}/kilroy/server``, whatever ``KILROY_RUNS_ROOT`` is."""
    state = {name: value for name, value in environ.items() if name != "KILROY_RUNS_ROOT"}
    return runs_root(state).parents[1] / "server"


NO_SERVER = "http://127.0.0.1:9/api"
"""API address where there is no server: nothing listens on the discard port. Without an address Prefect starts a server."""

_PREFECTS_SENDERS = ("EventsWorker", "APILogWorker")
"""Loggers of Prefect's threads that send events and log lines. At the end of a process the threads warn of unsent items, and
then send them."""


class Connection:
    """Makes this process use the configured Prefect API or, where none is configured, the local server.

    ``on_status`` is called with lines for the user.
    """

    def __init__(self, on_status: Callable[[str], None]) -> None:
        for name in _PREFECTS_SENDERS:
            logging.getLogger(name).setLevel(logging.ERROR)
        self._on_status = on_status
        self._local = api_is_surely_unconfigured(os.environ, Path.cwd())
        self._start: ServerStart | None = None

    def begin(self) -> None:
        """Starts the local server if certainly no API is configured. Does not wait for the server. Called before :meth:`enter`.

        Raises:
            ServerError: The server cannot be started.
        """
        if self._local:
            from kilroy_engine.server.local_server import begin_server

            # Otherwise Prefect's import reports its first use to its makers, with a message among the command's output. With a
            # configured server the user decides.
            os.environ.setdefault("DO_NOT_TRACK", "1")
            self._start = begin_server(state_dir=server_state_dir(os.environ), on_status=self._on_status)

    def enter(self) -> None:
        """Imports Prefect and makes this process use a server that answers.

        Raises:
            ServerError: The configured server cannot be used, or the local server does not start.
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
        """Makes this process use the configured server, or the local server if one runs. Starts no server and raises nothing.

        Where there is no server, requests to Prefect fail at once.
        """
        if configured_api_url():
            return
        from kilroy_engine.server.local_server import LocalServer, server_status

        server = server_status(server_state_dir(os.environ)).server
        _use(server or LocalServer(NO_SERVER, "", 0, started=False))

    def check(self) -> str:
        """Checks the configured server, for ``--preflight``. Returns its URL, or "local" where none is configured.

        Raises:
            ServerError: The configured server cannot be used.
        """
        url = "" if self._local else configured_api_url()
        if url:
            check_api(url)
        return url or "local"


def _import_prefect() -> None:
    """Imports Prefect without garbage collection, which saves a seventh of the time: the import makes a million objects that
    stay."""
    gc.disable()
    try:
        import_module("kilroy_engine.orchestration.flows.launch")
    finally:
        gc.freeze()
        gc.enable()


def _use(server: LocalServer) -> None:
    """Writes the server's address into the environment, for child processes too, and makes Prefect read its settings again."""
    from prefect.context import refresh_global_settings_context

    from kilroy_engine.server.local_server import client_environment

    os.environ.update(client_environment(server))
    refresh_global_settings_context()
