"""The run's watcher: a thread that keeps the lock fresh and turns a deadline, a UI cancel or a stop request into a stop.

Prefect tells a directly called flow nothing about a cancel, and no one watches its deadline while a tool runs; so the flow
looks for itself. A supervised run gets its signal from the worker within 0.2 s and is not polled.
"""

from __future__ import annotations

import contextvars
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from uuid import UUID

import httpx
from prefect.client.orchestration import get_client
from prefect.exceptions import ObjectNotFound

from kilroy_engine.handlers.base import Cancellation

IN_PREFECT = "in the Prefect UI or API"
DEADLINE = "run deadline of "
POLL_INTERVAL_S = 2.0
TOUCH_INTERVAL_S = 10.0
_TICK_S = 0.2


@contextmanager
def watching(
    cancellation: Cancellation,
    *,
    touch: Callable[[], None],
    stop_requested: Callable[[], str],
    deadline_s: float | None = None,
    poll_flow_run: UUID | None = None,
) -> Generator[None]:
    """Watches for the length of the block.

    Args:
        cancellation: Where a stop is requested.
        touch: Renews the owner's lock; called every 10 s.
        stop_requested: Source of a stop request left on disk, or "".
        deadline_s: Seconds from now after which the run is canceled.
        poll_flow_run: Flow run to ask the server about every 2 s; None where something else supervises it.
    """
    finished = threading.Event()

    def watch() -> None:
        started = time.monotonic()
        next_touch = next_poll = started
        while not finished.wait(_TICK_S):
            now = time.monotonic()
            if deadline_s is not None and now - started >= deadline_s:
                cancellation.request(f"{DEADLINE}{deadline_s:g}s")
            if source := stop_requested():
                cancellation.request(source)
            if now >= next_touch:
                next_touch = now + TOUCH_INTERVAL_S
                touch()
            if poll_flow_run is not None and now >= next_poll and not cancellation.requested:
                next_poll = now + POLL_INTERVAL_S
                if _canceled_on_server(poll_flow_run):
                    cancellation.request(IN_PREFECT)

    context = contextvars.copy_context()
    thread = threading.Thread(target=context.run, args=(watch,), name="kilroy-watch", daemon=True)
    thread.start()
    try:
        yield
    finally:
        finished.set()
        thread.join(timeout=5)


def _canceled_on_server(flow_run_id: UUID) -> bool:
    try:
        with get_client(sync_client=True) as client:
            state = client.read_flow_run(flow_run_id).state
    except (httpx.HTTPError, ObjectNotFound):
        return False  # a server that is away cannot have taken a cancel; the next poll asks again
    return state is not None and (state.is_cancelling() or state.is_cancelled())
