"""The process of a local server: serves Prefect's own application, and ends when nobody has used the server for a while.

:mod:`kilroy_engine.server.local_server` starts this file by its path, with one argument (:class:`Orders` as JSON) and Prefect's
settings in the environment. The file imports nothing of the engine. The process inherits the listening socket, so that no other
program can take the port meanwhile, and the lock, which the kernel frees when the process ends.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import socket
import sys
import time
from collections.abc import Awaitable, Callable, MutableMapping
from types import FrameType
from typing import Any, TypedDict

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

CHECK_INTERVAL_S = 0.25
# The queues are empty before the last batch is written: Prefect's task run recorder flushes each second. (The event persister
# waits longer, but flushes all that it holds when it is stopped.)
SETTLE_S = 1.5


class Orders(TypedDict):
    """The argument of the process. ``instance`` is the name of this server start, which ``identity_path`` answers with.

    ``idle_limit_s`` is how long an unused server runs, ``drain_timeout_s`` how long the end waits for events to be recorded.
    """

    listening_fd: int
    lock_fd: int
    instance: str
    identity_path: str
    idle_limit_s: float
    drain_timeout_s: float


class Activity:
    """ASGI application around Prefect's: notes the time of the last request and of the last event.

    Answers requests to ``identity_path`` itself.
    """

    def __init__(self, application: Application, orders: Orders) -> None:
        self._application = application
        self._orders = orders
        self._last_use = time.monotonic()
        self._last_event = float("-inf")
        self.open_connections = 0
        self.ending = False

    @property
    def idle_s(self) -> float:
        """Seconds since the last use; 0 while a request or a websocket is open."""
        return 0.0 if self.open_connections else time.monotonic() - self._last_use

    @property
    def since_event_s(self) -> float:
        """Seconds since an event arrived or was seen in a queue."""
        return time.monotonic() - self._last_event

    def note_use(self) -> None:
        self._last_use = time.monotonic()

    def note_event(self) -> None:
        self._last_event = time.monotonic()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        match scope["type"]:
            case "http" if scope["path"] == self._orders["identity_path"]:
                await self._identify(send, claimed=scope["query_string"] == b"claim")
            case "http":
                await self._used(scope, receive, send)
            case "websocket":
                await self._used(scope, self._noting(receive) if scope["path"].endswith("/events/in") else receive, send)
            case _:
                await self._application(scope, receive, send)

    async def _used(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.open_connections += 1
        try:
            await self._application(scope, receive, send)
        finally:
            self.open_connections -= 1
            self.note_use()

    def _noting(self, receive: Receive) -> Receive:
        async def receive_event() -> Message:
            message = await receive()
            self.note_event()
            return message

        return receive_event

    async def _identify(self, send: Send, *, claimed: bool) -> None:
        """Answers with this server's instance, pid and use. ``claimed`` counts as use, so the idle time begins again."""
        if claimed:
            self.note_use()
        body = json.dumps(
            {
                "instance": self._orders["instance"],
                "pid": os.getpid(),
                "idle_s": round(self.idle_s, 3),
                "idle_limit_s": self._orders["idle_limit_s"],
                "open_connections": self.open_connections,
                "pending_events": pending_events(),
                "ending": self.ending,
            }
        ).encode()
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})


def pending_events() -> int:
    """Number of events that Prefect's in-memory broker holds for the services that write them (no documented interface)."""
    from prefect.server.utilities.messaging.memory import Topic  # noqa: PLC0415 - loaded by serve(), with the collector off

    waiting = Topic.by_name("events")._subscriptions  # pyright: ignore[reportPrivateUsage]  # no public interface
    return max((each._queue.qsize() + each._retry.qsize() for each in waiting), default=0)  # pyright: ignore[reportPrivateUsage]


async def drain(activity: Activity, timeout_s: float) -> None:
    """Waits, up to ``timeout_s``, until all events that arrived are written. Prefect drops queued events when it stops."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if pending_events():
            activity.note_event()
        elif activity.since_event_s >= SETTLE_S:
            return
        await asyncio.sleep(CHECK_INTERVAL_S / 5)
    print(f"{pending_events()} events were not recorded within {timeout_s:g} s", file=sys.stderr)  # noqa: T201 - stderr is the log


def serve(listening: socket.socket, orders: Orders) -> None:
    gc.disable()  # the imports make hundreds of thousands of objects, none of which can be collected
    import uvicorn  # noqa: PLC0415 - after the line above
    from prefect.server.api.server import create_app  # noqa: PLC0415 - the same

    class DrainingServer(uvicorn.Server):
        """Only notes a signal. :func:`end_when_unused` then stops the server, once the events are recorded."""

        stop_wanted = False

        def handle_exit(self, sig: int, frame: FrameType | None) -> None:
            self.stop_wanted = True

    async def end_when_unused() -> None:
        # Before it has started, nobody can use the server, and Prefect's services cannot be stopped in order.
        while not server.started:  # noqa: ASYNC110 - uvicorn has no event for the start
            await asyncio.sleep(CHECK_INTERVAL_S)
        activity.note_use()
        while not server.stop_wanted and activity.idle_s < orders["idle_limit_s"]:  # noqa: ASYNC110 - only time makes it idle
            await asyncio.sleep(CHECK_INTERVAL_S)
        activity.ending = True
        await drain(activity, orders["drain_timeout_s"])
        server.should_exit = True

    async def run() -> None:
        ending = asyncio.create_task(end_when_unused())
        await server.serve(sockets=[listening])
        ending.cancel()

    activity = Activity(create_app(final=True), orders)
    server = DrainingServer(uvicorn.Config(activity, log_level="warning", lifespan="on", timeout_graceful_shutdown=5))
    gc.freeze()
    gc.enable()
    asyncio.run(run())


def main(argument: str) -> None:
    orders: Orders = json.loads(argument)
    os.set_inheritable(orders["lock_fd"], False)  # no child of the server may outlive it as the lock's owner
    listening = socket.socket(fileno=orders["listening_fd"])
    listening.set_inheritable(False)
    serve(listening, orders)


if __name__ == "__main__":
    main(sys.argv[1])
