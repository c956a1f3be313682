"""The server: one port for all providers, in a thread of the tests' process.

``<stub>/<run>/<scenario>`` is the base URL for an agent. ``run`` is any word: the log and the counters of faults are kept by
run. A ``[[scenario:NAME]]`` in the prompt goes before the scenario of the URL, so that the nodes of a pipeline, which share a
base URL, may have one each.
"""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from agent_stub import tools
from agent_stub.anthropic import Anthropic
from agent_stub.gemini import Gemini
from agent_stub.openai_chat import OpenAIChat
from agent_stub.openai_responses import OpenAIResponses
from agent_stub.provider import Conversation, Event, Provider, Reply
from agent_stub.scenarios import SCENARIOS
from agent_stub.script import Fault, Scenario, Turn, usage_of

_SECRET = ("authorization", "x-api-key", "x-goog-api-key", "cookie")
_PROVIDERS: dict[str, Provider] = {
    "/v1/messages": Anthropic(),
    "/v1/responses": OpenAIResponses(),
    "/v1/chat/completions": OpenAIChat(),
    "/{version}/models/{model}:{method}": Gemini(),
}


@dataclass(frozen=True)
class Asked:
    """One request. ``answer`` is the HTTP status, or the kind of fault that a stream had. Secrets are not in ``headers``."""

    run: str
    scenario: str
    method: str
    path: str
    headers: Mapping[str, str]
    body: Any
    turn: int
    has_tools: bool
    answer: int | str


class AgentStub:
    """A running stub; ``with AgentStub() as stub`` ends it, whatever its requests are doing."""

    def __init__(self) -> None:
        self._scenarios = dict(SCENARIOS)
        self._asked: list[Asked] = []
        self._faults: Counter[tuple[str, str]] = Counter()
        self._lock = threading.Lock()
        self._socket = socket.create_server(("127.0.0.1", 0))  # listens: who comes before the thread is ready, waits
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        config = uvicorn.Config(
            self._app(), log_level="critical", lifespan="off", ws="none", http="h11", timeout_graceful_shutdown=1
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [self._socket]}, name="agent stub")

    def __enter__(self) -> AgentStub:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.should_exit = True
        self._thread.join(timeout=20)
        assert not self._thread.is_alive(), "the stub of the providers does not end"
        self._socket.close()

    def base_url(self, run: str, scenario: str = "say") -> str:
        """For an agent. ``scenario`` is for prompts that name none."""
        return f"{self.url}/{run}/{scenario}"

    def add(self, name: str, scenario: Scenario) -> None:
        self._scenarios[name] = scenario

    def scenario(self, name: str) -> Scenario:
        """Raises:
        ValueError: There is none of this name.
        """
        try:
            return self._scenarios[name]
        except KeyError:
            raise ValueError(f"No scenario {name!r}; there are: {', '.join(sorted(self._scenarios))}") from None

    def asked(self, run: str, *, with_tools: bool = True) -> list[Asked]:
        """The requests of a run so far that want an answer of the model. Without ``with_tools`` those too that agents make
        on the side, for a title or a route."""
        with self._lock:
            return [one for one in self._asked if one.run == run and (one.has_tools or not with_tools)]

    def _app(self) -> Starlette:
        routes = [Route("/{run}/{scenario}" + path, self._endpoint(one), methods=["POST"]) for path, one in _PROVIDERS.items()]
        count = Route("/{run}/{scenario}/v1/messages/count_tokens", _count, methods=["POST"])
        probe = Route("/{run}/{scenario}", _probe)  # Claude Code begins with a HEAD; any answer will do
        models = Route("/{run}/{scenario}/v1/models", _models)
        return Starlette(routes=[*routes, count, probe, models])

    def _endpoint(self, provider: Provider) -> Any:
        async def endpoint(request: Request) -> Response:
            return await self._answer(provider, request)

        return endpoint

    async def _answer(self, provider: Provider, request: Request) -> Response:
        run, body = request.path_params["run"], await request.json()
        talk = provider.read(body, request.path_params)
        name = talk.scenario or request.path_params["scenario"]
        try:
            scenario = self.scenario(name)
            reply = _reply(talk, scenario)
        except ValueError as error:  # told to the agent, which prints it, and to the log
            self._log(request, name, body, talk, f"stub: {error}")
            return JSONResponse({"error": {"message": f"stub: {error}", "type": "invalid_request_error"}}, 400)
        fault = self._fault(run, name, scenario.fault, talk)
        if fault and fault.kind in ("http", "quota", "plan", "credit"):
            refusal = provider.refusal(fault)
            again = {} if fault.retry_after_s is None else {"retry-after": str(fault.retry_after_s)}
            self._log(request, name, body, talk, refusal.status)
            return JSONResponse(refusal.body, refusal.status, {**refusal.headers, **again})
        self._log(request, name, body, talk, fault.kind if fault else 200)
        if fault and fault.kind == "hang":
            await _until_gone(request)
            return Response(status_code=503)
        return _Stream(provider, reply, fault) if talk.streamed else JSONResponse(provider.whole(reply))

    def _fault(self, run: str, name: str, fault: Fault | None, talk: Conversation) -> Fault | None:
        """The fault of this request. One that happens a number of times is for requests of the conversation itself."""
        if fault is None or talk.turn != fault.on_turn:
            return None
        if not talk.offer:
            return fault if fault.kind == "http" and fault.times is None else None
        with self._lock:
            self._faults[run, name] += 1
            return fault if fault.times is None or self._faults[run, name] <= fault.times else None

    def _log(self, request: Request, scenario: str, body: Any, talk: Conversation, answer: int | str) -> None:
        headers = {name: value for name, value in request.headers.items() if name not in _SECRET}
        run, path = request.path_params["run"], request.url.path
        asked = Asked(run, scenario, request.method, path, headers, body, talk.turn, bool(talk.offer), answer)
        with self._lock:
            self._asked.append(asked)


class _Stream(Response):
    """Server-sent events. One that breaks off ends without HTTP's last chunk: the server then closes the connection."""

    def __init__(self, provider: Provider, reply: Reply, fault: Fault | None) -> None:
        super().__init__(media_type="text/event-stream", headers={"cache-control": "no-cache"})
        del self.headers["content-length"]
        self._provider, self._reply, self._fault = provider, reply, fault

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        async for event in self._events():
            data = event.data if isinstance(event.data, str) else json.dumps(event.data)
            head = f"event: {event.name}\n" if event.name else ""
            await send({"type": "http.response.body", "body": f"{head}data: {data}\n\n".encode(), "more_body": True})
        if not (self._fault and self._fault.kind == "cut"):
            await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _events(self) -> AsyncIterator[Event]:
        kind = self._fault.kind if self._fault else ""
        if kind == "sse_error":
            yield self._provider.overload()
            return
        for number, event in enumerate(self._provider.events(self._reply)):
            if kind == "cut" and number == self._provider.cut_after:
                return
            if self._fault and kind == "slow":
                await asyncio.sleep(self._fault.seconds)
            yield event


def _reply(talk: Conversation, scenario: Scenario) -> Reply:
    """What the model says. A request without tools is one on the side: it gets no calls."""
    turn = scenario.turn(talk.turn)
    if not talk.offer:
        turn = Turn(talk.wanted or (turn.text if not turn.calls else "") or "ok")
    uses = tuple(tools.use(call, talk.offer, talk.status_path) for call in turn.calls)
    return Reply(turn, uses, usage_of(talk.turn), talk.model)


async def _until_gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _probe(request: Request) -> Response:
    return Response()


async def _count(request: Request) -> Response:
    return JSONResponse({"input_tokens": usage_of(0).fresh})


async def _models(request: Request) -> Response:
    return JSONResponse({"object": "list", "data": [], "models": []})
