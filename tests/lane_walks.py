"""Whole walks without Prefect: real stages, real commands, a real run directory; attempts follow each other in a plain loop."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from in_process import InProcess

from kilroy_engine.agents.base import Agent
from kilroy_engine.execution.budget import Budget
from kilroy_engine.execution.effects import carry_out
from kilroy_engine.execution.lane import Lane
from kilroy_engine.execution.preparing.inputs import reveal
from kilroy_engine.execution.recorder import LaneRecorder
from kilroy_engine.execution.visiting.performer import Performer
from kilroy_engine.execution.visiting.updates import keep_large_inputs
from kilroy_engine.graph.dot.parse import parse_dot
from kilroy_engine.graph.inputs import declared_inputs
from kilroy_engine.graph.model import Graph
from kilroy_engine.graph.transforms import prepare
from kilroy_engine.handlers.registry import HandlerRegistry
from kilroy_engine.rundir.files.layout import RunDirectory
from kilroy_engine.rundir.files.runlog import RunLog
from kilroy_engine.rundir.files.usage import UsageLog
from kilroy_engine.rundir.stream.progress import ProgressLog, read_events
from kilroy_engine.settings.table import RunSettings
from kilroy_engine.traversal.fold import initial_state
from kilroy_engine.traversal.state import Finish, RunState
from kilroy_engine.traversal.walk import walk
from kilroy_engine.workspace.base import Workspace
from kilroy_engine.workspace.kilroy_folder import KilroyFolder
from kilroy_engine.workspace.plain import open_scratch

SHELL = "start [shape=Mdiamond] done [shape=Msquare] node [shape=parallelogram]"


def pipeline(statements: str, inputs: Mapping[str, str] | None = None) -> Graph:
    """A prepared pipeline with start, exit, and tools as the default kind of node."""
    return prepare(parse_dot(f"digraph g {{ {SHELL} {statements} }}"), inputs=inputs or {})


def lane_for(
    path: Path,
    graph: Graph,
    *,
    inputs: Mapping[str, str] | None = None,
    environ: Mapping[str, str] | None = None,
    agent: Agent | None = None,
    workspace: Workspace | None = None,
) -> Lane:
    """A lane whose directory is ``path``; it works in a scratch folder unless it is given another place."""
    run = RunDirectory(path)
    path.mkdir(exist_ok=True)
    workspace = workspace or open_scratch(run.worktree)
    KilroyFolder(workspace.path).prepare(dict(inputs or {}))
    return Lane(
        run_id="r1",
        graph=graph,
        settings=RunSettings(),
        directory=run,
        base=run,
        progress=ProgressLog(run, "r1"),
        workspace=workspace,
        handlers=HandlerRegistry(lambda node: agent),
        orchestrator=InProcess(),
        carry_out=carry_out,
        inputs=reveal(declared_inputs(graph), inputs or {}, environ or {}, no_secret),
        environment={"PATH": os.environ["PATH"]},
        log=RunLog(run),
        budget=Budget(UsageLog(run.usage)),
    )


@dataclass(frozen=True)
class Walked:
    """A walk that is over."""

    lane: Lane
    finish: Finish

    def events(self, name: str) -> list[dict[str, object]]:
        return [event for event in read_events(self.lane.directory.progress) if event["event"] == name]

    @property
    def warnings(self) -> list[object]:
        return [event["message"] for event in self.events("warning")]

    def file(self, name: str) -> str:
        return (self.lane.directory.path / name).read_text(encoding="utf-8")


def no_secret(name: str) -> str:
    raise KeyError(name)


def walked(
    path: Path,
    graph: Graph,
    *,
    inputs: Mapping[str, str] | None = None,
    environ: Mapping[str, str] | None = None,
    agent: Agent | None = None,
    state: RunState | None = None,
    workspace: Workspace | None = None,
) -> Walked:
    """Walks the pipeline to its end, from ``state`` or from the beginning."""
    lane = lane_for(path, graph, inputs=inputs, environ=environ, agent=agent, workspace=workspace)
    state = keep_large_inputs(lane, state or initial_state(graph, run_id="r1", inputs=inputs or {}))
    finish = walk(graph, state, perform=Performer(lane), recorder=LaneRecorder(lane))
    lane.progress.close()
    return Walked(lane, finish)
