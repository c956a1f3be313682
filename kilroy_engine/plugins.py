"""Parts that other distributions bring, found by entry points; none is loaded before it is asked for by name."""

from __future__ import annotations

from functools import cache
from importlib.metadata import EntryPoint, entry_points


@cache
def plugins(group: str) -> dict[str, EntryPoint]:
    """Entry points of ``group`` by name. Reading them costs some milliseconds, so they are read once per process."""
    return {entry.name: entry for entry in entry_points(group=group)}


def distribution_of(plugin: EntryPoint) -> str:
    """Name and version of the distribution that brings ``plugin``, for messages."""
    return f"{plugin.dist.name} {plugin.dist.version}" if plugin.dist else plugin.value
