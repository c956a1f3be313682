"""Finds plug-ins of other distributions by their entry points. The caller loads a plug-in when it needs it."""

from __future__ import annotations

from functools import cache
from importlib.metadata import EntryPoint, entry_points


@cache
def plugins(group: str) -> dict[str, EntryPoint]:
    """Entry points of ``group`` by name. Reading them takes some milliseconds, so each group is read once per process."""
    return {entry.name: entry for entry in entry_points(group=group)}


def distribution_of(plugin: EntryPoint) -> str:
    """Name and version of the distribution that has ``plugin``, for messages. The entry point's value where that is unknown."""
    return f"{plugin.dist.name} {plugin.dist.version}" if plugin.dist else plugin.value
