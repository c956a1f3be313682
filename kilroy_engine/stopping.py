"""A request to stop, which every wait of the engine watches: what asks, and the sentence that people read."""

from __future__ import annotations

import threading
from dataclasses import dataclass

from kilroy_engine.earlier import warn_of_earlier
from kilroy_engine.errors import RunCanceled, StopKind


@dataclass(frozen=True, slots=True)
class Stop:
    """Why work is to stop. ``kind`` decides; ``told`` is for people: who or what asks, and where it has failed the reason."""

    kind: StopKind
    told: str

    @property
    def failed(self) -> bool:
        """Whether what is stopped has failed; else it is canceled."""
        return self.kind in {StopKind.STALL, StopKind.BUDGET}

    @property
    def reason(self) -> str:
        """The text of ``failure_reason``."""
        return self.told if self.failed else f"canceled: {self.told}"


class Cancellation:
    """A request to stop that every wait of the engine watches. Set once; the first one wins. Safe for threads."""

    def __init__(self) -> None:
        self._event = threading.Event()
        self._lock = threading.Lock()
        self._stop: Stop | None = None
        self._followers: list[Cancellation] = []

    def __reduce__(self) -> tuple[type[Cancellation], tuple[()]]:
        # Another process cannot see this one's event: whoever takes work there looks for a request on disk.
        return Cancellation, ()

    def linked(self) -> Cancellation:
        """A cancellation for a part of the work: requested together with this one, or alone."""
        follower = Cancellation()
        with self._lock:
            self._followers.append(follower)
            stop = self._stop
        if stop is not None:
            follower.request(stop.kind, stop.told)
        return follower

    def request(self, kind: StopKind, told: str) -> bool:
        """Asks for a stop. ``told`` completes ``canceled: …``, or is the reason itself where ``kind`` is a failure.

        Returns False when a stop was asked for before.
        """
        with self._lock:
            if self._stop is not None:
                return False
            self._stop = Stop(kind, told)
            self._event.set()
            followers = tuple(self._followers)
        for follower in followers:
            follower.request(kind, told)
        return True

    @property
    def requested(self) -> bool:
        return self._event.is_set()

    @property
    def stop(self) -> Stop | None:
        """What asked first; None while nothing did."""
        return self._stop

    @property
    def source(self) -> str:
        """What the version before called ``stop.told``: who asks for a cancel, empty where nobody does."""
        warn_of_earlier("Cancellation.source", "cancellation.stop.told, or cancellation.reason")
        return self._stop.told if self._stop and not self._stop.failed else ""

    @property
    def failed(self) -> bool:
        """Whether the run stops as failed rather than canceled."""
        return self._stop is not None and self._stop.failed

    @property
    def reason(self) -> str:
        """Why the run stops, as it stands in ``failure_reason``; empty while nobody asked."""
        return self._stop.reason if self._stop else ""

    def raise_if_requested(self) -> None:
        """Raises:
        RunCanceled: A stop was requested.
        """
        if self._stop is not None:
            raise RunCanceled(self._stop.reason, kind=self._stop.kind)

    def wait(self, timeout_s: float) -> bool:
        """Sleeps up to ``timeout_s`` seconds; True as soon as a stop is requested."""
        return self._event.wait(timeout_s)
