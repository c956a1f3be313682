"""From what a provider or a program answers to the class of the failure, which decides about another attempt."""

from __future__ import annotations

import re

from kilroy_engine.agents.running.reports import Trouble
from kilroy_engine.traversal.failure import FailureClass

_QUOTA = re.compile(
    r"insufficient_quota|exceeded your current quota|quota exceeded|(usage|weekly|hourly|session|plan|subscription) limit"
    r"|limit reached\b.*\bresets?\b|you'?ve hit your .*limit|out of (extra )?(usage|credits?)|credit balance is too low"
    r"|exhausted your .{0,20}quota|billing (hard )?limit|free tier limit|daily limit",
    re.IGNORECASE,
)
_PASSING = re.compile(
    r"overloaded|at capacity|without a finish reason|rate.?limit|too many requests|resource.?exhausted|time(d)? ?out"
    r"|stream (was |has )?(disconnected|closed|error)|connection (error|refused|reset|closed|lost)|network|temporar|unavailable"
    r"|server error|econn|socket hang up|terminated|fetch failed|reconnect|try again|internal error",
    re.IGNORECASE,
)
_REFUSED = re.compile(
    r"not logged in|please run .*login|invalid (api|x-api).?key|api key|unauthorized|authentication|forbidden|permission"
    r"|invalid_request|bad request|not found|not supported|unknown (option|model|argument)|invalid auth"
    r"|context.?(length|window)",
    re.IGNORECASE,
)
_STATUS = re.compile(r"\b(?:status|error|code|http)\b[^\d\n]{0,12}([45]\d\d)\b|^\s*([45]\d\d)\b", re.IGNORECASE)
_RETRY_AFTER = re.compile(
    r"""(?:retry.?after|retry.?delay|try again in|retry in)["':=\s]{1,4}"""
    r"""(?=\d)(?:(?P<h>\d+)\s*h(?:ours?)?)?\s*(?:(?P<m>\d+)\s*m(?:in(?:utes?)?)?(?![a-z]))?\s*"""
    r"""(?:(?P<s>\d+(?:\.\d+)?)\s*(?P<ms>ms|milliseconds?)?)?""",
    re.IGNORECASE,
)
_TOO_MANY = 429
SHORT_WAIT_S = 900.0
"""A quota that is there again after this time at the most is a rate: waiting helps."""


def class_of(trouble: Trouble) -> FailureClass:
    """Transient where another attempt may help, deterministic where not, quota exhausted where only time helps.

    The words of a quota go before the status: providers answer 429 for a rate that is too high and for a quota that is spent.
    Words that nobody knows count as deterministic, as Kilroy has it.
    """
    if trouble.limit:
        return FailureClass.BUDGET_EXHAUSTED
    status = trouble.http_status or http_status(trouble.message)
    wait_s = retry_after_s(trouble.message)
    if _QUOTA.search(trouble.message):
        short = status == _TOO_MANY and wait_s is not None and wait_s <= SHORT_WAIT_S
        return FailureClass.TRANSIENT_INFRA if short else FailureClass.QUOTA_EXHAUSTED
    if status in {408, 409, 425, 429} or status >= 500:
        return FailureClass.TRANSIENT_INFRA
    if status >= 400 or _REFUSED.search(trouble.message):
        return FailureClass.DETERMINISTIC
    return FailureClass.TRANSIENT_INFRA if _PASSING.search(trouble.message) else FailureClass.DETERMINISTIC


def http_status(message: str) -> int:
    """The HTTP status that a text names, 0 for none."""
    match = _STATUS.search(message)
    return int(match[1] or match[2]) if match else 0


def retry_after_s(message: str) -> float | None:
    """How long the provider asks to wait, seconds; None where it does not say. Reads ``6m0s``, ``1h12m``, ``21.9s``, ``7``."""
    match = _RETRY_AFTER.search(message)
    if match is None:
        return None
    seconds = float(match["s"] or 0) / (1000 if match["ms"] else 1)
    return int(match["h"] or 0) * 3600 + int(match["m"] or 0) * 60 + seconds
