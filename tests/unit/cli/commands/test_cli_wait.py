"""Waiting for a run that goes through more than one start."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from run_writer import Kilroy, clean_environment
from starts import open_start

from kilroy_engine.events import RunStarted
from kilroy_engine.rundir.ending.finalize import end_of, end_run
from kilroy_engine.rundir.ending.starts import OpenStart
from kilroy_engine.rundir.ending.which_end_wins import Observed
from kilroy_engine.rundir.files.layout import RunDirectory
from kilroy_engine.rundir.files.records import Conclusion
from kilroy_engine.traversal.outcome import FinalStatus


def begin(run: Path, flow_run_id: str) -> OpenStart:
    return open_start(RunDirectory(run), RunStarted(flow_run_id=flow_run_id, graph_name="demo", goal=""), run_id="01A")


def end(start: OpenStart, status: FinalStatus, reason: str = "") -> None:
    Conclusion(status=status, reason=reason, start=start.owner.start).write(start.run)
    end_run(start.run, start.owner)
    start.close()


@pytest.fixture
def resumed(runs: Path) -> OpenStart:
    """The second start of a run whose first was canceled."""
    end(begin(runs / "01A", "flow-1"), FinalStatus.CANCELED, "canceled: by kilroy stop")
    return begin(runs / "01A", "flow-2")


def test_wait_for_a_resumed_run_ends_with_the_later_end(resumed: OpenStart, tmp_path: Path) -> None:
    """The terminal line of the first start is followed by run_resumed: the run goes on, and so does the wait."""
    waiting = subprocess.Popen(
        [sys.executable, "-m", "kilroy_engine.cli.main", "runs", "wait", "01A"],
        env=clean_environment(tmp_path),
        stderr=subprocess.PIPE,
        text=True,
    )
    with pytest.raises(subprocess.TimeoutExpired):
        waiting.wait(timeout=2)
    end(resumed, FinalStatus.SUCCESS)
    _, told = waiting.communicate(timeout=20)
    assert waiting.returncode == 0
    assert told == "run 01A: success\n"


def test_wait_for_a_resumed_run_that_nobody_ends_says_so(resumed: OpenStart, kilroy: Kilroy) -> None:
    """The end of an earlier start is not the run's: exit code 1 and why, not the 130 of before."""
    resumed.close()
    hour_ago = time.time() - 3600
    os.utime(resumed.run.progress, (hour_ago, hour_ago))
    done = kilroy("runs", "wait", "01A")
    assert done.returncode == 1
    assert "is gone and has left no end" in done.stderr


def test_wait_for_an_end_whose_writer_died_before_the_line_tells_it(kilroy: Kilroy, runs: Path) -> None:
    """final.json stands; nobody is left to write the terminal line, so the wait ends with what is known."""
    start = begin(runs / "01A", "flow-1")
    end_of(start.run, start.owner, Observed(FinalStatus.CANCELED)).write(start.run)
    start.close()
    hour_ago = time.time() - 3600
    os.utime(start.run.progress, (hour_ago, hour_ago))
    done = kilroy("runs", "wait", "01A")
    assert (done.returncode, done.stderr) == (130, "run 01A: canceled: canceled: in the Prefect UI or API\n")
