"""Twenty pipelines from the wild with the real Claude Code behind every agent node: KILROY_CORPUS names their folder."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from agent_runs import AgentPlace, agent_place
from agent_stub import AgentStub
from agent_stub.fixtures import require
from in_process import run_pipeline

from kilroy_engine.errors import DotSyntaxError
from kilroy_engine.execution.preparing.preparation import RunParameters
from kilroy_engine.graph.dot.parse import parse_dot
from kilroy_engine.graph.inputs import declared_inputs
from kilroy_engine.graph.model import Graph
from kilroy_engine.graph.node_types import AGENT, TOOL
from kilroy_engine.rundir.files.layout import RunDirectory
from kilroy_engine.rundir.stream.progress import read_events
from kilroy_engine.settings.options import Options

CORPUS = os.environ.get("KILROY_CORPUS", "")
SERVED = {AGENT, TOOL, "start", "exit", "conditional", "parallel", "parallel.fan_in", "wait.human"}
OWN_ROUTING = ("no outgoing edge matched", 'run aborted: node "', "goal gate unsatisfied")
"""What a run may fail with although every agent reports success: no answer leads out of it."""


def pipelines(wanted: int) -> Iterator[tuple[Path, Graph]]:
    """Those of the corpus with two agents or more and no command, evenly from all of its repositories."""
    found: list[tuple[Path, Graph]] = []
    for entry in json.loads((Path(CORPUS) / "index.json").read_text(encoding="utf-8")):
        path = Path(CORPUS).resolve() / entry["file"]
        if entry["negative"] or not 4 <= entry["nodes"] <= 12:
            continue
        try:
            graph = parse_dot(path.read_text(encoding="utf-8"), path.name)
        except DotSyntaxError:
            continue
        types = [node.type for node in graph.nodes.values()]
        if types.count(AGENT) >= 2 and TOOL not in types and set(types) <= SERVED:
            found.append((path, graph))
    step = max(1, len(found) // wanted)
    yield from found[::step][:wanted]


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.skipif(not CORPUS, reason="KILROY_CORPUS is not set: no pipelines from the wild to run")
def test_pipelines_from_the_wild_run_with_a_real_agent(
    agent_clis: Path,
    agent_stub: AgentStub,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Every agent reports success with its own tool: a run fails by its own routing alone. Prints a table. One of them goes
    around until the engine ends it at the 50th arrival at a node."""
    require(agent_clis, "claude")
    place = agent_place(tmp_path, agent_clis, agent_stub, monkeypatch, scenario="status")
    rows = [_row(place, path, graph, number) for number, (path, graph) in enumerate(pipelines(20))]
    with capsys.disabled():
        print(f"\n{'pipeline':<68} stages agents outcome  seconds reason")
        for file, stages, agents, status, seconds, reason in rows:
            print(f"{file[-68:]:<68} {stages:>6} {agents:>6} {status:<8} {seconds:>7.1f} {reason[:90]}")
    assert len(rows) == 20
    for file, _, agents, status, _, reason in rows:
        assert status == "success" or reason.startswith(OWN_ROUTING), f"{file}: {reason}"
        assert agents > 0, file


def _row(place: AgentPlace, path: Path, graph: Graph, number: int) -> tuple[str, int, int, str, float, str]:
    """File, attempts at stages, calls of the agent, final status, seconds, reason."""
    run = place.place.folder / f"run-{number}"
    inputs = {known.name: f"some {known.name}" for known in declared_inputs(graph)}
    options = Options(agent="claude", human="auto-approve", workspace="git", logs_root=str(run), run_timeout="5m")
    began = time.monotonic()
    final = run_pipeline(RunParameters(str(path), inputs, str(place.place.repo), options), base=place.place.folder)
    took_s = time.monotonic() - began
    streams = [RunDirectory(file.parent).progress for file in run.rglob("progress.ndjson")]
    events = [event["event"] for stream in streams for event in read_events(stream)]
    agents = len(list(run.rglob("cli_timing.json")))
    file = str(path.relative_to(Path(CORPUS).resolve()))
    return file, events.count("stage_attempt_start"), agents, final.status, took_s, final.failure_reason
