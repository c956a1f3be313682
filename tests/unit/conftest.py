"""For all unit tests: servers that are away are so at once. For those of stages: requests, with real folders."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import httpcore
import pytest

from kilroy_engine.graph.dot.parse import parse_dot
from kilroy_engine.handlers.base import StageRequest
from kilroy_engine.processes.environment import StagePlace, stage_environment


@pytest.fixture(scope="session", autouse=True)
def no_wait_for_servers_that_are_not_there() -> Iterator[None]:
    """Prefect's client tries a refused connection three times more, after half a second and a second. It still does so, without
    the wait: in these tests no server begins to answer meanwhile."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(httpcore.NetworkBackend, "sleep", lambda self, seconds: None)
        yield


@pytest.fixture
def request_for(tmp_path: Path) -> Callable[..., StageRequest]:
    """``request_for(statements, node_id, **changes)``: a first attempt at a node of the pipeline with these statements."""

    def make(statements: str, node_id: str = "a", **changes: object) -> StageRequest:
        graph = parse_dot(f"digraph g {{ start [shape=Mdiamond] exit [shape=Msquare] {statements} }}")
        stage_dir, work_dir = tmp_path / "run" / node_id, tmp_path / "run" / "worktree"
        stage_dir.mkdir(parents=True, exist_ok=True)
        work_dir.mkdir(parents=True, exist_ok=True)
        place = StagePlace("R1", node_id, tmp_path / "run", stage_dir, work_dir)
        asked = StageRequest(
            graph=graph,
            node=graph.nodes[node_id],
            visit=1,
            attempt=1,
            run_id="R1",
            context={},
            stage_dir=stage_dir,
            work_dir=work_dir,
            environment=stage_environment(os.environ, place, {}),
        )
        return replace(asked, **changes)  # type: ignore[arg-type]

    return make
