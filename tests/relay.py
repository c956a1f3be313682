"""A relay between a client and the Prefect server: it keeps what was asked, and answers some questions itself."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

AWAY = 0
"""A refusal that is no answer at all: the connection is closed."""


class Relay:
    """Passes requests on to the server at ``api_url``. ``asked`` holds ``METHOD /path`` of every request so far. A request
    whose path ends with ``refused_path`` gets the next of ``refusals`` as its answer, while there are any."""

    def __init__(self, api_url: str) -> None:
        server = urlsplit(api_url)
        self._server = (server.hostname or "", server.port or 80)
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.api_url = f"http://127.0.0.1:{self._listening.getsockname()[1]}{server.path}"
        self.asked: list[str] = []
        self.refused_path = ""
        self.refusals: list[int] = []

    def serve(self) -> None:
        """Until it is closed."""
        while True:
            try:
                client, _ = self._listening.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def close(self) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()

    def _serve(self, client: socket.socket) -> None:
        server = socket.create_connection(self._server)
        threading.Thread(target=_pump, args=(server, client), daemon=True).start()
        with client, server:
            try:
                self._requests(client, server)
            except OSError:
                pass  # one of them has closed the connection

    def _requests(self, client: socket.socket, server: socket.socket) -> None:
        while head := _head(client):
            lines = head.decode("latin-1").split("\r\n")
            method, target, _ = lines[0].split(" ")
            headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines[1:])}
            body = _exactly(client, int(headers.get("content-length", 0)))
            path = target.partition("?")[0]
            self.asked.append(f"{method} {path}")
            if self.refusals and self.refused_path and path.endswith(self.refused_path):
                status = self.refusals.pop(0)
                if status == AWAY:
                    return
                client.sendall(f"HTTP/1.1 {status} Refused\r\nContent-Length: 0\r\n\r\n".encode())
                continue
            server.sendall(head + body)
            if headers.get("upgrade", "").lower() == "websocket":
                _pump(client, server)
                return


def _head(client: socket.socket) -> bytes:
    """A request up to its empty line; empty at the end of the connection."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        byte = client.recv(1)
        if not byte:
            return b""
        head += byte
    return head


def _exactly(client: socket.socket, length: int) -> bytes:
    body = b""
    while len(body) < length and (part := client.recv(length - len(body))):
        body += part
    return body


def _pump(source: socket.socket, sink: socket.socket) -> None:
    try:
        while data := source.recv(65536):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        pass  # the other side has closed the connection


@contextmanager
def relaying(api_url: str) -> Iterator[Relay]:
    """A relay at work for the length of the block."""
    relay = Relay(api_url)
    threading.Thread(target=relay.serve, daemon=True).start()
    try:
        yield relay
    finally:
        relay.close()
