"""Slots of concurrency limits, held while a stage is at work.

The engine takes them itself, as Prefect does for task runs: one slot of each limit, under a lease that is renewed, held by the
task run. But a stop ends its wait, and a server that is busy or away does not. All slots of a stage are taken in one
request or none is, and nobody who holds one waits for another: no set of stages can wait for itself.
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
"""How long the slots of a process that died stay taken. The server takes no less."""
WARN_AFTER_S = 60.0
_RENEW_S = 15.0
_REQUEST_S = 10.0
_TICK_S = 0.2
_LEAST_PAUSE_S, _MOST_PAUSE_S = 0.5, 5.0
_ALL_TAKEN, _MORE_THAN_THE_LIMIT, _LEASE_UNKNOWN = 423, 422, 410
"""What the server answers where there is no slot, where the limit is 0, and to the renewal of a lease that it does not have."""
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Waiter:
    """Who waits. ``tell`` hears at once that there is something to wait for, and why; ``warn`` hears it when that lasts."""

    task_run_id: UUID
    cancellation: Cancellation
    tell: Callable[[str], None]
    warn: Callable[[str], None]


@contextmanager
def holding_slots(names: Sequence[str], waiter: Waiter) -> Generator[None]:
    """Holds one slot of each of the limits ``names`` for the length of the block.

    Raises:
        RunCanceled: A stop was requested while it waited.
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
    """Wakes whoever waits, when slots of this process are given back: the server tells nobody."""

    def __init__(self) -> None:
        self._rung = threading.Condition()
        self.count = 0

    def ring(self) -> None:
        with self._rung:
            self.count += 1
            self._rung.notify_all()

    def wait(self, since: int, timeout_s: float) -> bool:
        """Whether it was rung after the count was ``since``."""
        with self._rung:
            return self._rung.wait_for(lambda: self.count != since, timeout_s)


_given_back = _Bell()
_turns: dict[frozenset[str], threading.Lock] = {}


@contextmanager
def _turn(names: Sequence[str], cancellation: Cancellation) -> Generator[None]:
    """Of the stages of this process that want the same slots, one asks at a time: 64 branches are no 64 questions a second."""
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
        """Asks until the slots are there; the lease on them."""
        warn_at = time.monotonic() + WARN_AFTER_S
        while True:
            self.waiter.cancellation.raise_if_requested()
            given_back = _given_back.count
            try:
                return _lease(self.client, self.names, self.waiter.task_run_id)
            except (httpx.HTTPError, ValueError) as refusal:
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
        """Why there is no slot, and how long to wait (s) before the next question. A server in trouble is asked more rarely
        the longer that lasts; none of its answers is the stage's failure."""
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
    """What the server proposes, within bounds: its own proposal grows to half a minute."""
    assert isinstance(refusal, httpx.HTTPStatusError)
    try:
        proposed_s = float(refusal.response.headers.get("Retry-After", _LEAST_PAUSE_S))
    except ValueError:
        proposed_s = _LEAST_PAUSE_S
    return min(_MOST_PAUSE_S, max(_LEAST_PAUSE_S, proposed_s))


def _lease(client: SyncPrefectClient, names: Sequence[str], task_run_id: UUID) -> UUID:
    """One question. A limit that is gone meanwhile gives no slot and stops nobody."""
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
    """Renews the lease, in a thread. Where the server does not know it any more, the stage goes on without: its work is worth
    more than the limit."""

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
    """The client's own retries sleep without a look at anything."""
    return temporary_settings(updates={PREFECT_CLIENT_MAX_RETRIES: 0})
