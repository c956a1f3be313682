"""Kilroy Engine: Attractor pipelines (Graphviz DOT) as Prefect flows.

For readers of runs: :func:`read_run` tells what a run directory says now, :func:`tail_events` yields its events,
:class:`Abandoned` ends a wait for a run that lost its process. How to use them: ``docs/how-to/consume-a-run.md``.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kilroy_engine.rundir.files.layout import RunDirectory
    from kilroy_engine.rundir.ownership.abandoned import Abandoned
    from kilroy_engine.rundir.stream.reader import RunSummary, read_run, tail_events

__version__ = "0.1.0"
__all__ = ["Abandoned", "RunDirectory", "RunSummary", "__version__", "read_run", "tail_events"]

_HOMES = {
    "Abandoned": "kilroy_engine.rundir.ownership.abandoned",
    "RunDirectory": "kilroy_engine.rundir.files.layout",
    "RunSummary": "kilroy_engine.rundir.stream.reader",
    "read_run": "kilroy_engine.rundir.stream.reader",
    "tail_events": "kilroy_engine.rundir.stream.reader",
}


def __getattr__(name: str) -> object:
    # Loaded on first use: whoever only validates a pipeline does not pay for the run directory.
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
