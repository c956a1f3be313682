"""OpenAI chat completions, streamed and plain."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from typing import Any

from agent_stub import openai
from agent_stub.provider import Conversation, Event, Json, Refusal, Reply, new_id
from agent_stub.script import Fault
from agent_stub.tools import Offer


class OpenAIChat:
    cut_after = 2

    def read(self, body: Json, path: Mapping[str, str]) -> Conversation:
        messages = body["messages"]
        texts = tuple(
            text for message in reversed(messages) if message["role"] == "user" for text in _texts(message["content"])
        )
        tools = {tool["function"]["name"]: tool["function"].get("parameters", {}) for tool in body.get("tools", [])}
        return Conversation(_turn(messages), texts, bool(body.get("stream")), Offer(tools), body.get("model", "stub"))

    def whole(self, reply: Reply) -> Json:
        message: Json = {"role": "assistant", "content": reply.turn.text or None, "refusal": None}
        if reply.uses:
            message["tool_calls"] = _calls(reply)
        return _envelope(reply, "chat.completion") | {
            "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": _reason(reply)}],
            "usage": _usage(reply),
        }

    def events(self, reply: Reply) -> Iterator[Event]:
        """The usage rides on a chunk of its own, without choices: the way of ``stream_options.include_usage``."""
        envelope = _envelope(reply, "chat.completion.chunk")
        deltas: list[Json] = [{"role": "assistant", "content": ""}]
        if reply.turn.text:
            deltas.append({"content": reply.turn.text})
        deltas += [{"tool_calls": [{"index": index, **call}]} for index, call in enumerate(_calls(reply))]
        for delta in deltas:
            yield Event(envelope | {"choices": [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": None}]})
        yield Event(envelope | {"choices": [{"index": 0, "delta": {}, "logprobs": None, "finish_reason": _reason(reply)}]})
        yield Event(envelope | {"choices": [], "usage": _usage(reply)})
        yield Event("[DONE]")

    def refusal(self, fault: Fault) -> Refusal:
        return openai.refusal(fault)

    def overload(self) -> Event:
        return Event(openai.error("server_is_overloaded", "The server is overloaded. Please try again later."))


def _envelope(reply: Reply, kind: str) -> Json:
    return {"id": new_id("chatcmpl-"), "object": kind, "created": int(time.time()), "model": reply.model}


def _calls(reply: Reply) -> list[Json]:
    return [
        {"id": new_id("call_"), "type": "function", "function": {"name": use.name, "arguments": json.dumps(use.args)}}
        for use in reply.uses
    ]


def _reason(reply: Reply) -> str:
    return "tool_calls" if reply.uses else "stop"


def _usage(reply: Reply) -> Json:
    usage, tokens_in = reply.usage, reply.usage.fresh + reply.usage.cached
    return {
        "prompt_tokens": tokens_in,
        "completion_tokens": usage.output,
        "total_tokens": tokens_in + usage.output,
        "prompt_tokens_details": {"cached_tokens": usage.cached},
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning},
    }


def _texts(content: Any) -> list[str]:
    if isinstance(content, str):
        return [content]
    return [part["text"] for part in content or [] if part.get("type") == "text"]


def _turn(messages: list[Json]) -> int:
    """Messages of the model since the newest of the user; results have a role of their own."""
    count = 0
    for message in reversed(messages):
        count += message["role"] == "assistant"
        if message["role"] == "user":
            break
    return count
