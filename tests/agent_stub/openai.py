"""What both OpenAI APIs share: how they word their errors."""

from __future__ import annotations

import time

from agent_stub.provider import Json, Refusal
from agent_stub.script import Fault

_KINDS = {
    401: "invalid_api_key",
    429: "rate_limit_exceeded",
    500: "server_error",
    503: "server_is_overloaded",
    529: "server_is_overloaded",
}
_RESETS_IN_S = 3600


def refusal(fault: Fault) -> Refusal:
    """The words for quotas are those of the API and, for ``plan``, those that users of Codex have reported."""
    match fault.kind:
        case "quota" | "credit":
            text = (
                "You exceeded your current quota, please check your plan and billing details. For more information on this "
                "error, read the docs: https://platform.openai.com/docs/guides/error-codes/api-errors."
            )
            return Refusal(429, error("insufficient_quota", text))
        case "plan":
            body = error("usage_limit_reached", "The usage limit has been reached")
            body["error"] |= {
                "plan_type": "plus",
                "resets_at": int(time.time()) + _RESETS_IN_S,
                "resets_in_seconds": _RESETS_IN_S,
            }
            return Refusal(429, body)
        case _:
            kind = _KINDS.get(fault.status, "invalid_request_error")
            return Refusal(fault.status, error(kind, f"scripted answer {fault.status}"))


def error(kind: str, text: str) -> Json:
    return {"error": {"message": text, "type": kind, "param": None, "code": kind}}
