"""A lane: one walk of a run with everything that its parts share. A run has one lane of its own; each branch gets another."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from kilroy_engine.errors import RunEnded
from kilroy_engine.events import Event, LlmUsage
from kilroy_engine.execution.budget import Budget
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
"""Carries out the effect that the handler of a node asked for. Arguments: lane, node, the state at the visit, the effect, the
number of the attempt."""


@dataclass(frozen=True, kw_only=True)
class Lane:
    """Everything that stages, recorder and performer of one walk share.

    ``directory`` holds the walk's stages, checkpoint and events: the run directory, a ``restart-N`` in it, or a branch's
    directory. ``base`` is the run directory in every lane. ``environment`` is for child processes. All lanes of a run share
    ``log`` and ``clock``. ``path`` names the branches around the lane, outermost first; it is empty for the run's own lane.

    ``within`` names the restart and the child pipelines around the lane. Git branches of all fan-outs of a run need different
    names, and these names are part of them.

    ``folder`` is where the files that the pipeline names are looked for. ``pipelines`` are the files of the pipelines around
    this one, outermost first, then its own file. A pipeline without a file is an empty text.

    ``orchestrator`` and ``carry_out`` start branches, child pipelines and calls.

    A lane can be pickled and sent to another process, which opens the lane's files anew.
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
    budget: Budget
    cancellation: Cancellation = field(default_factory=Cancellation)
    clock: ProgressClock = field(default_factory=ProgressClock)
    path: tuple[str, ...] = ()
    within: tuple[str, ...] = ()
    folder: Path = field(default_factory=Path.cwd)
    pipelines: tuple[str, ...] = ("",)

    @property
    def names(self) -> tuple[str, ...]:
        """The names that tell this lane from all other lanes of the run, those in restarts and child pipelines included. Empty
        for the run's own lane."""
        return (*self.within, *self.path)

    def emit(self, event: Event) -> None:
        """Appends an event to the lane's stream. After the run's end the event is dropped, and the stream logs that."""
        try:
            self.progress.append(event)
        except RunEnded:
            return
        if isinstance(event, LlmUsage):
            self.budget.spend(event, self.names)

    def with_secrets(self, context: Mapping[str, Json]) -> Mapping[str, Json]:
        """``context`` for child processes: in ``inputs``, the names of secrets are replaced by their values."""
        shown, values = self.inputs.shown, self.inputs.values
        inputs = context.get("inputs")
        if not isinstance(inputs, dict) or shown == values:
            return context
        return {**context, "inputs": {key: values[key] if inputs[key] == shown.get(key) else inputs[key] for key in inputs}}
