"""`usage.ndjson`: what models have cost a run, a line for each report, from all of its branches, child pipelines and starts."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from kilroy_engine.errors import RunDirectoryError
from kilroy_engine.events.encoding import compact
from kilroy_engine.rundir.files.atomic import write_all
from kilroy_engine.rundir.files.regular import open_file, open_for_writing


class Usage(BaseModel):
    """A line of `usage.ndjson`: one report of what a model was used for."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    node_id: str = Field(description="node whose agent used it; below branches and child pipelines with their names before it")
    provider: str = Field(default="", description="provider key")
    model: str = Field(default="", description="model as the provider names it")
    input_tokens: int = Field(default=0, ge=0, description="tokens read, those that the provider had kept included")
    output_tokens: int = Field(default=0, ge=0, description="tokens written")
    cached_input_tokens: int = Field(default=0, ge=0, description="tokens read that the provider had kept")
    cost_usd: float | None = Field(default=None, description="cost in US dollars; null where nobody knows the price")

    def plus(self, other: Usage) -> Usage:
        """Both together, under this one's node and model. The cost of the sum is not known where one of the two is not."""
        known = self.cost_usd is not None and other.cost_usd is not None
        return self.model_copy(
            update={
                "input_tokens": self.input_tokens + other.input_tokens,
                "output_tokens": self.output_tokens + other.output_tokens,
                "cached_input_tokens": self.cached_input_tokens + other.cached_input_tokens,
                "cost_usd": (self.cost_usd or 0.0) + (other.cost_usd or 0.0) if known else None,
            }
        )

    @property
    def tokens(self) -> int:
        """Tokens read and written together."""
        return self.input_tokens + self.output_tokens


class UsageLog:
    """The ledger of one run. Every process of the run appends to the same file and reads on where it stopped reading.

    A line is one ``write`` on an ``O_APPEND`` descriptor: whole, whoever else writes. Safe for threads.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._read_bytes = 0

    def __reduce__(self) -> tuple[type[UsageLog], tuple[Path]]:
        return UsageLog, (self._path,)

    def append(self, usage: Usage) -> None:
        """Raises:
        OSError: The disk refused.
        """
        descriptor = open_for_writing(self._path, os.O_WRONLY | os.O_APPEND)
        try:
            write_all(descriptor, compact(usage.model_dump()) + b"\n")
        finally:
            os.close(descriptor)

    def news(self) -> tuple[Usage, ...]:
        """The lines since the last call, other processes' too; the first call gives all. Junk is passed over."""
        with self._lock:
            return tuple(self._read_on())

    def _read_on(self) -> Iterator[Usage]:
        try:
            stream = open_file(self._path)
        except RunDirectoryError:
            return
        if stream is None:
            return
        with stream:
            stream.seek(self._read_bytes)
            for line in stream:
                if not line.endswith(b"\n"):
                    return  # its writer is not done
                self._read_bytes += len(line)
                try:
                    yield Usage.model_validate_json(line)
                except ValidationError:
                    continue


def totals_of(usages: Iterable[Usage]) -> tuple[Usage, ...]:
    """One sum for each node and model, in the order in which they first appear."""
    totals: dict[tuple[str, str], Usage] = {}
    for usage in usages:
        key = usage.node_id, usage.model
        totals[key] = totals[key].plus(usage) if key in totals else usage
    return tuple(totals.values())
