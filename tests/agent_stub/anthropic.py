"""Anthropic Messages, streamed and plain."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator, Mapping
from typing import Any

from agent_stub.provider import Conversation, Event, Json, Refusal, Reply, new_id
from agent_stub.script import Fault
from agent_stub.tools import Offer

_KINDS = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
    529: "overloaded_error",
}
_RESETS_IN_S = 3600
_FOLDER = re.compile(r"orking directory: (/[^\r\n]+)")


class Anthropic:
    cut_after = 3

    def read(self, body: Json, path: Mapping[str, str]) -> Conversation:
        messages = body["messages"]
        texts = tuple(
            text for message in reversed(messages) if message["role"] == "user" for text in _texts(message["content"])
        )
        told = [
            text for part in (body.get("system", ""), *(message["content"] for message in messages)) for text in _texts(part)
        ]
        folder = next((found.group(1).strip() for text in told if (found := _FOLDER.search(text))), "")
        tools = {tool["name"]: tool.get("input_schema", {}) for tool in body.get("tools", [])}
        offer = Offer(tools, folder=folder)
        return Conversation(_turn(messages), texts, bool(body.get("stream")), offer, body.get("model", "stub"))

    def whole(self, reply: Reply) -> Json:
        text = [{"type": "text", "text": reply.turn.text}] if reply.turn.text else []
        uses = [{"type": "tool_use", "id": new_id("toolu_"), "name": use.name, "input": use.args} for use in reply.uses]
        return {
            "id": new_id("msg_"),
            "type": "message",
            "role": "assistant",
            "model": reply.model,
            "content": [*text, *uses],
            "stop_reason": "tool_use" if uses else "end_turn",
            "stop_sequence": None,
            "usage": {
                "input_tokens": reply.usage.fresh,
                "cache_creation_input_tokens": 0,
                "cache_read_input_tokens": reply.usage.cached,
                "output_tokens": reply.usage.output,
            },
        }

    def events(self, reply: Reply) -> Iterator[Event]:
        message = self.whole(reply)
        begun = message | {"content": [], "stop_reason": None, "usage": message["usage"] | {"output_tokens": 1}}
        yield _event("message_start", message=begun)
        for index, block in enumerate(message["content"]):
            if block["type"] == "text":
                empty, delta = {"type": "text", "text": ""}, {"type": "text_delta", "text": block["text"]}
            else:
                empty, delta = block | {"input": {}}, {"type": "input_json_delta", "partial_json": json.dumps(block["input"])}
            yield _event("content_block_start", index=index, content_block=empty)
            yield _event("content_block_delta", index=index, delta=delta)
            yield _event("content_block_stop", index=index)
        delta = {"stop_reason": message["stop_reason"], "stop_sequence": None}
        yield _event("message_delta", delta=delta, usage={"output_tokens": message["usage"]["output_tokens"]})
        yield _event("message_stop")

    def refusal(self, fault: Fault) -> Refusal:
        """The words for quotas are those that users of the API and of Claude Code have reported."""
        resets = int(time.time()) + _RESETS_IN_S
        match fault.kind:
            case "quota":
                at = time.strftime("%Y-%m-%d at %H:%M UTC", time.gmtime(resets))
                return Refusal(
                    429, _error(429, f"Claude usage limit reached. Your limit resets at {at}."), {"retry-after": "3600"}
                )
            case "plan":
                limits = {"status": "rejected", "reset": str(resets), "representative-claim": "five_hour"}
                headers = {f"anthropic-ratelimit-unified-{name}": value for name, value in limits.items()}
                text = "This request would exceed your account's rate limit. Please try again later."
                return Refusal(429, _error(429, text), headers | {"retry-after": str(_RESETS_IN_S)})
            case "credit":
                text = (
                    "Your credit balance is too low to access the Anthropic API. Please go to Plans & Billing to upgrade or "
                    "purchase credits."
                )
                return Refusal(400, _error(400, text))
            case _:
                return Refusal(fault.status, _error(fault.status, f"scripted answer {fault.status}"))

    def overload(self) -> Event:
        return Event(_error(529, "Overloaded"), "error")


def _error(status: int, text: str) -> Json:
    error = {"type": _KINDS.get(status, "api_error"), "message": text}
    return {"type": "error", "error": error, "request_id": new_id("req_")}


def _event(kind: str, **fields: Any) -> Event:
    return Event({"type": kind, **fields}, kind)


def _texts(content: Any) -> list[str]:
    if isinstance(content, str):
        return [content]
    return [block["text"] for block in content if block.get("type") == "text"]


def _turn(messages: list[Json]) -> int:
    """Messages of the model since the newest of the user that is not just results. Claude Code puts system messages between."""
    count = 0
    for message in reversed(messages):
        if message["role"] == "assistant":
            count += 1
        elif message["role"] == "user" and not _has_result(message["content"]):
            break
    return count


def _has_result(content: Any) -> bool:
    return isinstance(content, list) and any(block.get("type") == "tool_result" for block in content)
