"""Writes notes (labels, tags) to a flow run in Prefect. A busy or absent server neither delays the run nor fails it."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeAlias
from uuid import UUID

import httpx
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.exceptions import ObjectNotFound
from prefect.settings import PREFECT_CLIENT_MAX_RETRIES, temporary_settings

from kilroy_engine.threads import start_thread

Request: TypeAlias = Callable[[SyncPrefectClient], object]
"""Makes the requests of one note. Called again as a whole where one of the requests failed."""

_LIMIT_S = 10.0
_PAUSES_S = (1.0, 2.0, *(5.0,) * 24)
"""Seconds before each further try: two minutes in all."""
_INSIST_S = 30.0
_INSIST_PAUSE_S = 1.0
_log = logging.getLogger(__name__)


def note(flow_run_id: UUID, what: str, request: Request) -> None:
    """Calls ``request`` once. Where the request fails, a thread repeats the call, so that the run need not wait.

    ``what`` names the note in the log.
    """
    made = _Note(flow_run_id, what, request)
    if made.request_once():
        return
    _open.add(made)
    start_thread(made.try_on, name="kilroy-notes")


def insist(flow_run_id: UUID) -> None:
    """Repeats the flow run's open notes, for up to 30 s each. Called at the end of the run, before the process may exit.

    Does not wait for a server that refuses the connection.
    """
    for made in [made for made in tuple(_open) if made.flow_run_id == flow_run_id]:
        made.insist()


@dataclass(eq=False)
class _Note:
    flow_run_id: UUID
    what: str
    request: Request
    _made: threading.Event = field(default_factory=threading.Event)
    _away: bool = False

    def try_on(self) -> None:
        for pause_s in _PAUSES_S:
            if self._made.wait(pause_s) or self.request_once():
                return
        _open.discard(self)
        _log.warning("%s is not noted in Prefect: the server does not take it", self.what)

    def insist(self) -> None:
        give_up = time.monotonic() + _INSIST_S
        while not self._made.is_set() and not self.request_once() and not self._away and time.monotonic() < give_up:
            self._made.wait(_INSIST_PAUSE_S)

    def request_once(self) -> bool:
        without_retries = temporary_settings(updates={PREFECT_CLIENT_MAX_RETRIES: 0})
        try:
            with without_retries, get_client(httpx_settings={"timeout": _LIMIT_S}, sync_client=True) as client:
                self.request(client)
        except (httpx.HTTPError, ObjectNotFound) as error:
            _log.debug("%s: %s", self.what, error)
            self._away = isinstance(error, httpx.ConnectError)
            return False
        self._made.set()
        _open.discard(self)
        return True


_open: set[_Note] = set()
"""Notes that the server has not accepted yet."""
