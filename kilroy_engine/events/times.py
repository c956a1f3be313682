"""Times in the notation of the run directory: RFC 3339 in UTC with ``Z``, no zeros at the end of the fraction (Kilroy)."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime


def now() -> datetime:
    """The current time in UTC, as an aware ``datetime``."""
    return datetime.now(UTC)


def rfc3339(moment: datetime) -> str:
    """``moment`` as text such as ``2026-01-02T03:04:05.123456Z``. A fraction of zero is left out."""
    utc = moment.astimezone(UTC)
    fraction = f".{utc.microsecond:06d}".rstrip("0") if utc.microsecond else ""
    return f"{utc:%Y-%m-%dT%H:%M:%S}{fraction}Z"


def rfc3339_ns(epoch_ns: int) -> str:
    """The moment ``epoch_ns`` nanoseconds after the epoch, in the same notation with up to nine digits of fraction."""
    seconds, nanoseconds = divmod(epoch_ns, 1_000_000_000)
    fraction = f".{nanoseconds:09d}".rstrip("0") if nanoseconds else ""
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(seconds))}{fraction}Z"


def read_rfc3339(text: str) -> datetime:
    """The moment that ``text`` writes, as an aware ``datetime`` in UTC. Digits after the microsecond are dropped.

    Raises:
        ValueError: ``text`` is no such time.
    """
    return datetime.fromisoformat(_NINE_DIGITS.sub(r"\1", text)).astimezone(UTC)


_NINE_DIGITS = re.compile(r"(\.\d{6})\d+")
