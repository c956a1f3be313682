"""The page about consuming runs: its commands and its Python session do what they say."""

from __future__ import annotations

import doctest
import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from starts import open_start

from kilroy_engine.events import RunStarted, StageAttemptEnd
from kilroy_engine.rundir.ending.finalize import end_run
from kilroy_engine.rundir.ending.starts import OpenStart
from kilroy_engine.rundir.files.layout import RunDirectory
from kilroy_engine.rundir.files.records import Conclusion
from kilroy_engine.traversal.outcome import FinalStatus

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "consume-a-run.md"
COMMANDS = re.findall(r"```sh\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
WAIT, WAIT_WITH_JQ, FAILED_STAGES = COMMANDS


@pytest.fixture
def run(tmp_path: Path) -> OpenStart:
    """A run at work whose stage ``build`` has failed."""
    start = open_start(RunDirectory(tmp_path), RunStarted(flow_run_id="flow-1", graph_name="demo", goal=""), run_id="r1")
    for node, status, reason in (("start", "success", ""), ("build", "fail", "exit status 2")):
        start.progress.append(StageAttemptEnd(node_id=node, attempt=1, max=1, status=status, failure_reason=reason))
    return start


def end(start: OpenStart) -> None:
    Conclusion(status=FinalStatus.FAIL, reason="exit status 2", sha="c0ffee").write(start.run)
    end_run(start.run, start.owner)
    start.close()


def shell(command: str, run: RunDirectory, *, meanwhile: Callable[[], None] = lambda: None) -> subprocess.CompletedProcess[str]:
    """Runs a command of the page; ``meanwhile`` happens a second after it began."""
    timer = threading.Timer(1, meanwhile)
    timer.start()
    try:
        return subprocess.run(
            ["bash", "-c", command],
            env={**os.environ, "RUN": str(run.path), "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    finally:
        timer.join()


def test_the_command_waits_for_the_end_and_exits_with_its_code(run: OpenStart) -> None:
    """``kilroy runs wait``: 1 after a failure."""
    done = shell(WAIT, run.run, meanwhile=lambda: end(run))
    assert (done.returncode, done.stderr) == (1, "run r1: fail: exit status 2\n")


def test_the_recipe_with_jq_waits_for_the_end_and_tells_it(run: OpenStart) -> None:
    """Only the files are needed. A torn line in between does not disturb it."""
    with run.run.progress.open("ab") as stream:
        stream.write(b'{"event":"wa')
    done = shell(WAIT_WITH_JQ, run.run, meanwhile=lambda: end(run))
    assert (done.stdout, done.stderr) == ("fail exit status 2\n", "")


def test_the_recipe_with_jq_lists_what_failed(run: OpenStart) -> None:
    """One line per failed attempt."""
    end(run)
    assert shell(FAILED_STAGES, run.run).stdout == "build attempt 1/1: exit status 2\n"


def test_the_python_session_reads_a_run_to_its_end(run: OpenStart) -> None:
    """Line by line what the page shows, against a run that is at work while the session begins."""
    timer = threading.Timer(1, end, [run])
    timer.start()
    examples = doctest.DocTestParser().get_doctest(
        PAGE.read_text(encoding="utf-8"), {"path": run.run.path}, PAGE.name, str(PAGE), 0
    )
    failures = doctest.DocTestRunner().run(examples)
    timer.join()
    assert failures == doctest.TestResults(failed=0, attempted=5)
