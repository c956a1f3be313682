"""Holds slots of Prefect's concurrency limits while a stage is at work.

The engine takes the slots as Prefect does for task runs: one slot of each limit, under a lease that is renewed, held by the
task run. Other than in Prefect, a stop ends the wait for slots, and a server that is busy or away does not. One request takes
all slots of a stage or none, so a stage that holds a slot never waits for another, and stages cannot deadlock.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from uuid import UUID

import httpx
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.objects import ConcurrencyLeaseHolder
from prefect.client.schemas.responses import ConcurrencyLimitWithLeaseResponse
from prefect.settings import PREFECT_CLIENT_MAX_RETRIES, temporary_settings

from kilroy_engine.stopping import Cancellation
from kilroy_engine.threads import beside

LEASE_S = 60.0
"""How long the slots of a process that died stay taken. The server accepts no shorter lease."""
WARN_AFTER_S = 60.0
_RENEW_S = 15.0
_REQUEST_S = 10.0
_TICK_S = 0.2
_LEAST_PAUSE_S, _MOST_PAUSE_S = 0.5, 5.0
_ALL_TAKEN, _MORE_THAN_THE_LIMIT, _LEASE_UNKNOWN = 423, 422, 410
"""The server's HTTP status where no slot is free, where the limit is 0, and where a lease to renew is unknown."""
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Waiter:
    """The stage that waits for slots. ``tell`` is called with the reason at once, ``warn`` after :data:`WARN_AFTER_S`."""

    task_run_id: UUID
    cancellation: Cancellation
    tell: Callable[[str], None]
    warn: Callable[[str], None]


@contextmanager
def holding_slots(names: Sequence[str], waiter: Waiter) -> Generator[None]:
    """Holds one slot of each of the limits ``names`` for the length of the block.

    Raises:
        RunCanceled: A stop was requested during the wait.
    """
    if not names:
        yield
        return
    with _client() as client:
        with _turn(names, waiter.cancellation):
            lease = _Wait(client, names, waiter).acquire()
        try:
            with _renewing(lease, names):
                yield
        finally:
            _release(client, lease)
            _given_back.ring()


class _Bell:
    """Wakes the stages of this process that wait, when another stage has given slots back. The server notifies nobody."""

    def __init__(self) -> None:
        self._rung = threading.Condition()
        self.count = 0

    def ring(self) -> None:
        with self._rung:
            self.count += 1
            self._rung.notify_all()

    def wait(self, since: int, timeout_s: float) -> bool:
        """Waits until the bell has rung after the count was ``since``. False when ``timeout_s`` is over first."""
        with self._rung:
            return self._rung.wait_for(lambda: self.count != since, timeout_s)


_given_back = _Bell()
_turns: dict[frozenset[str], threading.Lock] = {}


@contextmanager
def _turn(names: Sequence[str], cancellation: Cancellation) -> Generator[None]:
    """Lets one stage of this process at a time ask for the same slots: 64 branches must not make 64 requests a second."""
    turn = _turns.setdefault(frozenset(names), threading.Lock())
    while not turn.acquire(timeout=_TICK_S):
        cancellation.raise_if_requested()
    try:
        yield
    finally:
        turn.release()


@dataclass
class _Wait:
    client: SyncPrefectClient
    names: Sequence[str]
    waiter: Waiter
    told: str = ""
    failures: int = 0

    def acquire(self) -> UUID:
        """Asks the server until the slots are free. Returns the id of the lease."""
        warn_at = time.monotonic() + WARN_AFTER_S
        while True:
            self.waiter.cancellation.raise_if_requested()
            given_back = _given_back.count
            try:
                return _lease(self.client, self.names, self.waiter.task_run_id)
            except (httpx.HTTPError, ValueError) as refusal:  # ValueError: an answer that is no lease
                why, pause_s = self._judged(refusal)
            if why != self.told:
                self.told = why
                self.waiter.tell(f"waits for {self._wanted}: {why}")
            if time.monotonic() >= warn_at:
                warn_at = float("inf")
                self.waiter.warn(f"has been waiting for {self._wanted} for {WARN_AFTER_S:g} s: {why}")
            self._pause(given_back, pause_s)

    @property
    def _wanted(self) -> str:
        limits = "limits" if len(self.names) > 1 else "limit"
        return f"a slot of the concurrency {limits} {', '.join(self.names)}"

    def _judged(self, refusal: Exception) -> tuple[str, float]:
        """The reason why there is no slot, and the pause (s) before the next request.

        The pause doubles while the server fails, up to 2 x ``_MOST_PAUSE_S``. Whatever the server answers, the stage goes on
        waiting.
        """
        status = refusal.response.status_code if isinstance(refusal, httpx.HTTPStatusError) else 0
        if status == _ALL_TAKEN:
            self.failures = 0
            return "all are taken", _wait_of(refusal)
        if status == _MORE_THAN_THE_LIMIT:
            self.failures = 0
            return "a limit of 0 lets no stage begin", _MOST_PAUSE_S
        self.failures += 1
        pause_s = min(_MOST_PAUSE_S * 2, _LEAST_PAUSE_S * 2**self.failures)
        said = f"answers {status}" if status else f"does not answer ({type(refusal).__name__})"
        return f"the Prefect server {said}", pause_s

    def _pause(self, given_back: int, pause_s: float) -> None:
        ends = time.monotonic() + pause_s * random.uniform(0.8, 1.2)
        while (left_s := ends - time.monotonic()) > 0 and not self.waiter.cancellation.requested:
            if _given_back.wait(given_back, min(_TICK_S, left_s)):
                return


def _wait_of(refusal: Exception) -> float:
    """The server's ``Retry-After`` (s), within bounds: the server proposes up to half a minute."""
    assert isinstance(refusal, httpx.HTTPStatusError)
    try:
        proposed_s = float(refusal.response.headers.get("Retry-After", _LEAST_PAUSE_S))
    except ValueError:
        proposed_s = _LEAST_PAUSE_S
    return min(_MOST_PAUSE_S, max(_LEAST_PAUSE_S, proposed_s))


def _lease(client: SyncPrefectClient, names: Sequence[str], task_run_id: UUID) -> UUID:
    """Makes one request for all slots and returns the lease. A limit that was deleted meanwhile is ignored by the server."""
    with _without_retries():
        answer = client.increment_concurrency_slots_with_lease(
            names=list(names),
            slots=1,
            mode="concurrency",
            lease_duration=LEASE_S,
            holder=ConcurrencyLeaseHolder(type="task_run", id=task_run_id),
        )
    return ConcurrencyLimitWithLeaseResponse.model_validate(answer.json()).lease_id


def _release(client: SyncPrefectClient, lease: UUID) -> None:
    try:
        with _without_retries():
            client.release_concurrency_slots_with_lease(lease)
    except httpx.HTTPError as error:
        _log.warning("slots could not be given back; they are free again within %g s: %s", LEASE_S, error)


def _renewing(lease: UUID, names: Sequence[str]) -> AbstractContextManager[None]:
    """Renews the lease in a thread, for the length of the block.

    Where the server does not know the lease any more, the stage goes on without slots: its work is worth more than the limit.
    """

    def renew(finished: threading.Event) -> None:
        while not finished.wait(_RENEW_S):
            try:
                with _client() as client, _without_retries():
                    client.renew_concurrency_lease(lease, LEASE_S)
            except httpx.HTTPStatusError as error:
                if error.response.status_code == _LEASE_UNKNOWN:
                    _log.warning("the slots of %s are lost: the server does not know of them any more", ", ".join(names))
                    return
            except httpx.HTTPError as error:
                _log.debug("a lease could not be renewed: %s", error)

    return beside(renew, name="kilroy-slots")


def _client() -> SyncPrefectClient:
    return get_client(httpx_settings={"timeout": _REQUEST_S}, sync_client=True)


def _without_retries() -> AbstractContextManager[object]:
    """Switches the client's own retries off, because their sleep ignores a stop."""
    return temporary_settings(updates={PREFECT_CLIENT_MAX_RETRIES: 0})
