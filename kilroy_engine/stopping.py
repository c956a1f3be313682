"""The request to stop a run or a part of it: who asks, why, and how waiting code notices the request."""

from __future__ import annotations

import threading
from dataclasses import dataclass

from kilroy_engine.earlier import warn_of_earlier
from kilroy_engine.errors import RunCanceled, StopKind


@dataclass(frozen=True, slots=True)
class Stop:
    """Why work is to stop. ``kind`` decides how the work ends.

    ``told`` is text for people: who or what asks, such as ``by kilroy stop``. For a failure it is the whole reason.
    """

    kind: StopKind
    told: str

    @property
    def failed(self) -> bool:
        """Whether the stopped work ends as failed. Otherwise it ends as canceled."""
        return self.kind in {StopKind.STALL, StopKind.BUDGET}

    @property
    def reason(self) -> str:
        """The text for ``failure_reason`` in the run's records."""
        return self.told if self.failed else f"canceled: {self.told}"


class Cancellation:
    """Tells the code of a run that it must stop. Every wait of the engine watches a cancellation.

    Only the first request counts. Threads may share a cancellation.
    """

    def __init__(self) -> None:
        self._event = threading.Event()
        self._lock = threading.Lock()
        self._stop: Stop | None = None
        self._followers: list[Cancellation] = []

    def __reduce__(self) -> tuple[type[Cancellation], tuple[()]]:
        # Another process cannot see this process's event. A worker there looks for a cancel request in the run directory.
        return Cancellation, ()

    def linked(self) -> Cancellation:
        """A new cancellation for a part of the work. A request to this cancellation also reaches the new one."""
        follower = Cancellation()
        with self._lock:
            self._followers.append(follower)
            stop = self._stop
        if stop is not None:
            follower.request(stop.kind, stop.told)
        return follower

    def request(self, kind: StopKind, told: str) -> bool:
        """Requests a stop, here and in the linked cancellations. ``told`` completes ``canceled: …``.

        For ``StopKind.STALL``, ``told`` is the whole reason. Returns False, and changes nothing, after an earlier request.
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
        """The first request; None while there is none."""
        return self._stop

    @property
    def source(self) -> str:
        """Deprecated: ``stop.told`` in the version before. Empty without a request, and for a stall."""
        warn_of_earlier("Cancellation.source", "cancellation.stop.told, or cancellation.reason")
        return self._stop.told if self._stop and not self._stop.failed else ""

    @property
    def failed(self) -> bool:
        """Whether the stop ends the run as failed and not as canceled."""
        return self._stop is not None and self._stop.failed

    @property
    def reason(self) -> str:
        """The text for ``failure_reason``: why the run stops. Empty without a request."""
        return self._stop.reason if self._stop else ""

    def raise_if_requested(self) -> None:
        """Raises:
        RunCanceled: A stop was requested.
        """
        if self._stop is not None:
            raise RunCanceled(self._stop.reason, kind=self._stop.kind)

    def wait(self, timeout_s: float) -> bool:
        """Waits up to ``timeout_s`` seconds. Returns True as soon as a stop is requested, else False."""
        return self._event.wait(timeout_s)
