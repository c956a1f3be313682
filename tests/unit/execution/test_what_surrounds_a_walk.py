"""In which order a run's walk is surrounded, concluded and left."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from pathlib import Path

import pytest
from in_process import InProcess, opened

from kilroy_engine.execution.conduct import conduct
from kilroy_engine.execution.opening import OpenedRun
from kilroy_engine.execution.ports import Performed, VisitAtWork
from kilroy_engine.execution.preparing.preparation import RunParameters
from kilroy_engine.rundir.stages.process_groups import record_process
from kilroy_engine.settings.options import Options

GRAPH = 'digraph g { start [shape=Mdiamond] done [shape=Msquare] start -> done [condition="outcome=success"] }'


class Interrupted(InProcess):
    """Breaks off at the first visit, as a signal's exception does."""

    def perform(self, visit: VisitAtWork, after: Iterable[object]) -> Performed:
        raise KeyboardInterrupt


@contextmanager
def beginning_a_process_late(opened_run: OpenedRun, late: list[subprocess.Popen[bytes]]) -> Generator[None]:
    """What branches elsewhere may do until their pool is closed."""
    directory = opened_run.run.directory
    try:
        yield
    finally:
        assert not directory.conclusion.exists()
        stage = directory.stage("late")
        stage.mkdir()
        late.append(subprocess.Popen(["sleep", "300"], start_new_session=True))
        record_process(stage, late[-1])


@pytest.mark.parametrize("orchestrator", [InProcess, Interrupted])
def test_what_goes_on_beside_the_walk_is_over_before_child_processes_are_ended(
    orchestrator: Callable[[], InProcess], tmp_path: Path
) -> None:
    """Else a process that a branch elsewhere begins meanwhile would outlive the run, however the walk ends."""
    options = Options(logs_root=str(tmp_path / "run"), workspace="plain")
    found = opened(RunParameters(GRAPH, options=options), orchestrator(), base=tmp_path)
    late: list[subprocess.Popen[bytes]] = []
    try:
        conduct(found, beginning_a_process_late(found, late))
    except KeyboardInterrupt:
        assert orchestrator is Interrupted
    finally:
        found.run.close()
    (process,) = late
    assert process.wait(timeout=10) != 0
