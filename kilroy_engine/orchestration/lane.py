"""A lane: one walk of a run with everything that its parts share. A run has one of its own; each branch gets another."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from kilroy_engine.errors import RunEnded
from kilroy_engine.events import Event
from kilroy_engine.graph.model import Graph
from kilroy_engine.handlers.base import Cancellation
from kilroy_engine.handlers.registry import HandlerRegistry
from kilroy_engine.orchestration.branch_pool import BranchPool, ThreadBranchPool
from kilroy_engine.orchestration.inputs import Inputs
from kilroy_engine.orchestration.settings import RunSettings
from kilroy_engine.orchestration.stall import ProgressClock
from kilroy_engine.orchestration.tag_limits import TagLimits
from kilroy_engine.rundir.files.layout import RunDirectory
from kilroy_engine.rundir.files.runlog import RunLog
from kilroy_engine.rundir.stream.progress import ProgressLog
from kilroy_engine.traversal.outcome import Json
from kilroy_engine.workspace.base import Workspace


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

    ``tags`` are those of whoever called the flow, ``limits`` what is known of concurrency limits on tags.

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
    inputs: Inputs
    environment: Mapping[str, str]
    log: RunLog
    cancellation: Cancellation = field(default_factory=Cancellation)
    clock: ProgressClock = field(default_factory=ProgressClock)
    path: tuple[str, ...] = ()
    within: tuple[str, ...] = ()
    folder: Path = field(default_factory=Path.cwd)
    pipelines: tuple[str, ...] = ("",)
    pool: BranchPool = field(default_factory=ThreadBranchPool)
    tags: frozenset[str] = frozenset()
    limits: TagLimits = field(default_factory=TagLimits)

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
