"""Gemini: ``generateContent`` and ``streamGenerateContent``."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping

from agent_stub.provider import Conversation, Event, Json, Refusal, Reply, new_id
from agent_stub.script import Fault
from agent_stub.tools import Offer, Schema, smallest

_NAMES = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    429: "RESOURCE_EXHAUSTED",
    500: "INTERNAL",
}
_TYPE = "type.googleapis.com/google.rpc."
_RATE_LIMITS = "https://ai.google.dev/gemini-api/docs/rate-limits"
_QUOTA = {
    "quotaMetric": "generativelanguage.googleapis.com/generate_content_free_tier_requests",
    "quotaId": "GenerateRequestsPerDayPerProjectPerModel-FreeTier",
    "quotaDimensions": {"location": "global", "model": "gemini-2.5-pro"},
    "quotaValue": "50",
}


class Gemini:
    cut_after = 1

    def read(self, body: Json, path: Mapping[str, str]) -> Conversation:
        contents = body.get("contents", [])
        users = [content for content in reversed(contents) if content.get("role", "user") == "user"]
        texts = tuple(part["text"] for content in users for part in content.get("parts", []) if "text" in part)
        declared = [one for tool in body.get("tools", []) for one in tool.get("functionDeclarations", [])]
        tools = {one["name"]: one.get("parametersJsonSchema") or one.get("parameters") or {} for one in declared}
        streamed = path["method"] == "streamGenerateContent"
        return Conversation(_turn(contents), texts, streamed, Offer(tools), path["model"], _wanted(body))

    def whole(self, reply: Reply) -> Json:
        """Gemini's ``candidatesTokenCount`` is without what it thought."""
        usage, tokens_in = reply.usage, reply.usage.fresh + reply.usage.cached
        return {
            "candidates": [{"content": {"role": "model", "parts": _parts(reply)}, "index": 0, "finishReason": "STOP"}],
            "modelVersion": reply.model,
            "responseId": new_id(""),
            "usageMetadata": {
                "promptTokenCount": tokens_in,
                "cachedContentTokenCount": usage.cached,
                "candidatesTokenCount": usage.output - usage.reasoning,
                "thoughtsTokenCount": usage.reasoning,
                "totalTokenCount": tokens_in + usage.output,
            },
        }

    def events(self, reply: Reply) -> Iterator[Event]:
        """A chunk for each part. The last one says why the answer ended, and what it cost."""
        whole = self.whole(reply)
        candidate = whole["candidates"][0]
        parts = candidate["content"]["parts"]
        for part in parts[:-1]:
            begun = {"content": {"role": "model", "parts": [part]}, "index": 0}
            yield Event({key: whole[key] for key in ("modelVersion", "responseId")} | {"candidates": [begun]})
        yield Event(whole | {"candidates": [candidate | {"content": {"role": "model", "parts": parts[-1:]}}]})

    def refusal(self, fault: Fault) -> Refusal:
        """The quota's words and details are those that users of the API have reported."""
        if fault.kind == "http":
            return Refusal(fault.status, _error(fault.status, f"scripted answer {fault.status}"))
        text = (
            "You exceeded your current quota, please check your plan and billing details. For more information on this error, "
            f"head to: {_RATE_LIMITS}."
        )
        body = _error(429, text)
        body["error"]["details"] = [
            {"@type": _TYPE + "QuotaFailure", "violations": [_QUOTA]},
            {"@type": _TYPE + "Help", "links": [{"description": "Learn more about Gemini API quotas", "url": _RATE_LIMITS}]},
            {"@type": _TYPE + "RetryInfo", "retryDelay": "34s"},
        ]
        return Refusal(429, body)

    def overload(self) -> Event:
        return Event(_error(503, "The model is overloaded. Please try again later."))


def _wanted(body: Json) -> str:
    """Routing and summaries have no tools and ask for JSON of a schema."""
    config = body.get("generationConfig", {})
    schema: Schema | None = config.get("responseJsonSchema") or config.get("responseSchema")
    return json.dumps(smallest(schema)) if schema else ""


def _error(status: int, text: str) -> Json:
    return {"error": {"code": status, "message": text, "status": _NAMES.get(status, "UNAVAILABLE")}}


def _parts(reply: Reply) -> list[Json]:
    said: list[Json] = [{"text": reply.turn.text}] if reply.turn.text else []
    return said + [{"functionCall": {"id": new_id("fc-"), "name": use.name, "args": use.args}} for use in reply.uses]


def _turn(contents: list[Json]) -> int:
    """Contents of the model since the newest of the user that holds no result."""
    count = 0
    for content in reversed(contents):
        if content.get("role") == "model":
            count += 1
        elif not any("functionResponse" in part for part in content.get("parts", [])):
            break
    return count
