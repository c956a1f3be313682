"""A lane: one walk of a run with everything that its parts share. A run has one of its own; each branch gets another."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from kilroy_engine.errors import RunEnded
from kilroy_engine.events import Event
from kilroy_engine.execution.ports import Orchestrator
from kilroy_engine.execution.preparing.inputs import Inputs
from kilroy_engine.execution.stall import ProgressClock
from kilroy_engine.graph.model import Graph, Node
from kilroy_engine.handlers.base import CallPrefect, FanIn, FanOut, Supervise
from kilroy_engine.handlers.registry import HandlerRegistry
from kilroy_engine.rundir.files.layout import RunDirectory
from kilroy_engine.rundir.files.runlog import RunLog
from kilroy_engine.rundir.stream.progress import ProgressLog
from kilroy_engine.settings.table import RunSettings
from kilroy_engine.stopping import Cancellation
from kilroy_engine.traversal.outcome import Json, Outcome
from kilroy_engine.traversal.state import RunState
from kilroy_engine.workspace.base import Workspace

CarryOut: TypeAlias = "Callable[[Lane, Node, RunState, FanOut | FanIn | CallPrefect | Supervise, int], Outcome]"
"""Carries out what the handler of a node asked for, at the state in which it was visited, in attempt number N."""


@dataclass(frozen=True, kw_only=True)
class Lane:
    """What stages, recorder and performer of one walk work with.

    ``directory`` holds the walk's stages, checkpoint and events: the run directory itself, a ``restart-N`` in it, or a branch's
    directory. ``base`` is the run directory itself, whichever lane it is. ``environment`` is for child processes. ``log`` and
    ``clock`` are the run's, too. ``path`` names the branches around the lane, outermost first; it is empty for the run's own.

    ``within`` names the restart and the child pipelines that it lies in: the git branches of all fan-outs of a run live side by
    side, whichever walk they belong to.

    ``folder`` is where files that the pipeline names are. ``pipelines`` are the files of the pipelines around it, outermost
    first, and its own; an empty text for one without a file.

    ``orchestrator`` and ``carry_out`` are the ways to others' work: stages run branches and child pipelines, which run stages.

    A lane can be sent to another process: what is open here is opened anew there.
    """

    run_id: str
    graph: Graph
    settings: RunSettings
    directory: RunDirectory
    base: RunDirectory
    progress: ProgressLog
    workspace: Workspace
    handlers: HandlerRegistry
    orchestrator: Orchestrator
    carry_out: CarryOut
    inputs: Inputs
    environment: Mapping[str, str]
    log: RunLog
    cancellation: Cancellation = field(default_factory=Cancellation)
    clock: ProgressClock = field(default_factory=ProgressClock)
    path: tuple[str, ...] = ()
    within: tuple[str, ...] = ()
    folder: Path = field(default_factory=Path.cwd)
    pipelines: tuple[str, ...] = ("",)

    @property
    def names(self) -> tuple[str, ...]:
        """What tells it from all other walks of the run, restarts and child pipelines included; empty for the run's own."""
        return (*self.within, *self.path)

    def emit(self, event: Event) -> None:
        """Appends an event to the lane's stream. One that comes after the end is left out; the stream logs that."""
        try:
            self.progress.append(event)
        except RunEnded:
            return

    def with_secrets(self, context: Mapping[str, Json]) -> Mapping[str, Json]:
        """``context`` for child processes: named secrets in ``inputs`` are replaced by their values."""
        shown, values = self.inputs.shown, self.inputs.values
        inputs = context.get("inputs")
        if not isinstance(inputs, dict) or shown == values:
            return context
        return {**context, "inputs": {key: values[key] if inputs[key] == shown.get(key) else inputs[key] for key in inputs}}
