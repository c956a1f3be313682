"""A request to stop, kept in the run directory: the process that ends the run reads that the run was canceled, and by whom."""

from __future__ import annotations

from kilroy_engine.errors import StopKind
from kilroy_engine.events import CancelRequested
from kilroy_engine.events.times import now
from kilroy_engine.rundir.files.layout import RunDirectory
from kilroy_engine.rundir.files.records import CancelRequest
from kilroy_engine.rundir.ownership.ownership import current_owner, run_id_in
from kilroy_engine.rundir.stream.progress import ProgressLog


def request_cancel(run: RunDirectory, kind: StopKind, source: str) -> CancelRequest:
    """Writes the request to stop the current start, and appends the event ``cancel_requested``. Nothing is stopped here.

    The first request of a start stays and is returned. ``source`` completes ``canceled: …``.

    Raises:
        RunEnded: The run is over; nothing was changed.
    """
    log = ProgressLog(run, run_id_in(run))
    try:
        with log.exclusive():
            owner = current_owner(run)
            start = owner.start if owner else 1
            earlier = CancelRequest.find(run)
            if earlier is not None and earlier.start == start and not log.ended:
                return earlier
            request = CancelRequest(source=source, kind=kind, at=now(), start=start)
            log.append(CancelRequested(source=source))
            request.write(run)
            return request
    finally:
        log.close()


def cancel_requested(run: RunDirectory, start: int) -> CancelRequest | None:
    """The request to stop start ``start``; None where there is none."""
    request = CancelRequest.find(run)
    return request if request is not None and request.start == start else None
