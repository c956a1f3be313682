"""Reads in a thread which tags and providers the Prefect server limits, so that a stage without a limit makes no request.

A limit made by ``prefect concurrency-limit create TAG N`` and a global limit named ``tag:TAG`` are the same thing: a limit
of that name. A stage asks for slots of the limits that were last seen.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Generator, Iterable
from contextlib import contextmanager

import httpx

from kilroy_engine.orchestration.ending.told import asking_prefect
from kilroy_engine.orchestration.tasks.tags import PROVIDER_PREFIX, TAG_PREFIX
from kilroy_engine.stopping import Cancellation
from kilroy_engine.threads import beside

LOOK_INTERVAL_S = 20.0
"""Seconds between two looks. A new limit counts for stages that begin later than that (and the server's answer)."""
_FIRST_PAUSE_S = 1.0
_FIRST_LOOK_S = 15.0
"""How long the first stage of a run waits for the server's first answer."""
_PAGE = 200
_log = logging.getLogger(__name__)


class TagLimits:
    """The server's limits on tags and on providers, as last seen. Safe for threads. Empty until :meth:`watched` has looked."""

    def __init__(self) -> None:
        self._names: frozenset[str] = frozenset()
        self._seen = threading.Event()
        self._seen.set()

    def __reduce__(self) -> tuple[type[TagLimits], tuple[()]]:
        # A worker process of the pool gets an empty object and watches the server itself.
        return TagLimits, ()

    def among(self, names: Iterable[str], cancellation: Cancellation) -> tuple[str, ...]:
        """The ``names`` that the server limits, sorted. Waits for the first look, up to 15 s or until a stop."""
        ticks = round(_FIRST_LOOK_S / 0.1)
        while ticks and not self._seen.wait(0.1) and not cancellation.requested:
            ticks -= 1
        return tuple(sorted(self._names.intersection(names)))

    @contextmanager
    def watched(self) -> Generator[None]:
        """Asks the server at once and then in intervals, in a thread, for the length of the block."""
        self._seen.clear()
        try:
            with beside(self._look_until, name="kilroy-tag-limits"):
                yield
        finally:
            self._seen.set()

    def _look_until(self, finished: threading.Event) -> None:
        pause_s = _FIRST_PAUSE_S
        while True:
            try:
                self._names = limits_in_force()
            except (httpx.HTTPError, ValueError) as error:
                _log.debug("the limits on tags could not be looked at: %s", error)
                pause_s = min(pause_s * 2, LOOK_INTERVAL_S)
            else:
                self._seen.set()
                pause_s = LOOK_INTERVAL_S
            if finished.wait(pause_s):
                return


def limits_in_force() -> frozenset[str]:
    """Names of the active limits on tags and on providers, asked from the server.

    Raises:
        httpx.HTTPError: The server did not answer.
        ValueError: The answer is no list of limits.
    """
    found: set[str] = set()
    with asking_prefect() as prefect:
        for offset in range(0, 100_000, _PAGE):
            page = prefect.client.read_global_concurrency_limits(limit=_PAGE, offset=offset)
            found |= {limit.name for limit in page if limit.active and limit.name.startswith((TAG_PREFIX, PROVIDER_PREFIX))}
            if len(page) < _PAGE:
                break
    return frozenset(found)
