"""What is noted at a flow run for others to find: beside the run, which neither waits for a busy server nor ends by one."""

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
"""The requests that note something. They are made again as a whole where the server did not take one of them."""

_LIMIT_S = 10.0
_PAUSES_S = (1.0, 2.0, *(5.0,) * 24)
"""Between one try and the next: two minutes in all."""
_INSIST_S = 30.0
_INSIST_PAUSE_S = 1.0
_log = logging.getLogger(__name__)


def note(flow_run_id: UUID, what: str, request: Request) -> None:
    """Makes the request, which notes something at the flow run. ``what`` is for the log.

    A server that is busy or away gets it later: a thread tries on, and the run need not wait.
    """
    made = _Note(flow_run_id, what, request)
    if made.request_once():
        return
    _open.add(made)
    start_thread(made.try_on, name="kilroy-notes")


def insist(flow_run_id: UUID) -> None:
    """At the end of the run, which may come before the next try: waits for a server that is busy with notes at this flow run,
    for a while, and not for one that is away."""
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
"""Notes that the server has not taken yet."""
