"""Times as the run directory writes them: RFC 3339 in UTC with ``Z``, trailing zeros of the fraction removed (Kilroy)."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime


def now() -> datetime:
    """The current time, aware, in UTC."""
    return datetime.now(UTC)


def rfc3339(moment: datetime) -> str:
    """``2026-01-02T03:04:05.123456Z``; no fraction when it is zero."""
    utc = moment.astimezone(UTC)
    fraction = f".{utc.microsecond:06d}".rstrip("0") if utc.microsecond else ""
    return f"{utc:%Y-%m-%dT%H:%M:%S}{fraction}Z"


def rfc3339_ns(epoch_ns: int) -> str:
    """The same for nanoseconds since the epoch, with up to nine digits."""
    seconds, nanoseconds = divmod(epoch_ns, 1_000_000_000)
    fraction = f".{nanoseconds:09d}".rstrip("0") if nanoseconds else ""
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(seconds))}{fraction}Z"


def read_rfc3339(text: str) -> datetime:
    """The moment, aware, to the microsecond: further digits are dropped.

    Raises:
        ValueError: it is no such time.
    """
    return datetime.fromisoformat(_NINE_DIGITS.sub(r"\1", text)).astimezone(UTC)


_NINE_DIGITS = re.compile(r"(\.\d{6})\d+")
