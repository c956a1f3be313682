"""OpenAI Responses, streamed and plain. Codex speaks it."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from typing import Any

from agent_stub import openai
from agent_stub.provider import Conversation, Event, Json, Refusal, Reply, new_id
from agent_stub.script import Fault, Usage
from agent_stub.tools import Offer, Use

_RESULTS = ("function_call_output", "custom_tool_call_output", "local_shell_call_output")


class OpenAIResponses:
    cut_after = 2

    def read(self, body: Json, path: Mapping[str, str]) -> Conversation:
        given = body["input"]
        items = [{"role": "user", "content": given}] if isinstance(given, str) else given
        texts = tuple(text for item in reversed(items) if item.get("role") == "user" for text in _texts(item["content"]))
        offered = list(_offered(body, items))
        tools = {tool["name"]: tool["parameters"] for tool in offered if tool.get("parameters") and "name" in tool}
        freeform = frozenset(tool["name"] for tool in offered if tool.get("type") == "custom")
        offer = Offer(tools, freeform)
        return Conversation(_turn(items), texts, bool(body.get("stream")), offer, body.get("model", "stub"))

    def whole(self, reply: Reply) -> Json:
        return {
            "id": new_id("resp_"),
            "object": "response",
            "created_at": int(time.time()),
            "status": "completed",
            "model": reply.model,
            "output": _output(reply),
            "usage": _usage(reply.usage),
            "error": None,
            "incomplete_details": None,
            "instructions": None,
            "metadata": {},
            "parallel_tool_calls": True,
            "tool_choice": "auto",
            "tools": [],
            "temperature": None,
            "top_p": None,
        }

    def events(self, reply: Reply) -> Iterator[Event]:
        response = self.whole(reply)
        for number, (kind, fields) in enumerate(_steps(response)):
            yield Event({"type": kind, "sequence_number": number, **fields}, kind)

    def refusal(self, fault: Fault) -> Refusal:
        return openai.refusal(fault)

    def overload(self) -> Event:
        error = {"code": "server_is_overloaded", "message": "Our servers are currently overloaded. Please try again later."}
        response = {"id": new_id("resp_"), "status": "failed", "error": error}
        return Event({"type": "response.failed", "response": response}, "response.failed")


def _steps(response: Json) -> Iterator[tuple[str, Json]]:
    yield "response.created", {"response": response | {"status": "in_progress", "output": [], "usage": None}}
    for index, item in enumerate(response["output"]):
        begun = item | {"status": "in_progress"} | ({"content": []} if item["type"] == "message" else {})
        yield "response.output_item.added", {"output_index": index, "item": begun}
        if item["type"] == "message":
            delta = item["content"][0]["text"]
            where = {"item_id": item["id"], "output_index": index, "content_index": 0}
            yield "response.output_text.delta", where | {"delta": delta}
        yield "response.output_item.done", {"output_index": index, "item": item}
    yield "response.completed", {"response": response}


def _output(reply: Reply) -> list[Json]:
    said: list[Json] = []
    if reply.turn.text:
        content = [{"type": "output_text", "text": reply.turn.text, "annotations": []}]
        said.append({"type": "message", "id": new_id("msg_"), "role": "assistant", "status": "completed", "content": content})
    return said + [_item(use) for use in reply.uses]


def _item(use: Use) -> Json:
    call_id = new_id("call_")
    common = {"id": new_id("item_"), "status": "completed", "call_id": call_id, "name": use.name}
    if use.name in ("apply_patch", "exec"):  # take text, not JSON
        return {"type": "custom_tool_call", **common, "input": use.args["input"]}
    return {"type": "function_call", **common, "arguments": json.dumps(use.args)}


def _usage(usage: Usage) -> Json:
    tokens_in = usage.fresh + usage.cached
    return {
        "input_tokens": tokens_in,
        "input_tokens_details": {"cached_tokens": usage.cached},
        "output_tokens": usage.output,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning},
        "total_tokens": tokens_in + usage.output,
    }


def _offered(body: Json, items: list[Json]) -> Iterator[Json]:
    """Tools stand beside the input, in it for newer models, and in namespaces."""
    groups = [body.get("tools", []), *(item.get("tools", []) for item in items if item.get("type") == "additional_tools")]
    for tool in (tool for group in groups for tool in group):
        yield tool
        yield from tool.get("tools", [])


def _texts(content: Any) -> list[str]:
    if isinstance(content, str):
        return [content]
    return [part["text"] for part in content if part.get("type") in ("input_text", "text")]


def _turn(items: list[Json]) -> int:
    """Rounds of results since the newest message of the user."""
    count, in_results = 0, False
    for item in reversed(items):
        is_result = item.get("type", "message") in _RESULTS
        count += is_result and not in_results
        in_results = is_result
        if item.get("role") == "user":
            break
    return count
