"""Five recorded runs of Kilroy on real Prefect, one for each mechanism that Prefect carries.

All of them are carried out by the in-process orchestrator, in ``tests/contract/test_recorded_runs.py``.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from engine_process import Answer, Request, answers
from golden import STOPPED, our_account, parameters_of, recorded, require_agreement
from real_prefect import Prefect, eventually

KILROY = [sys.executable, "-m", "kilroy_engine.cli.main"]
RETRIED, FANNED_OUT, RESTARTED, STALLED = (
    "06a-retry-flaky-3rd",
    "08o-parallel-multi-node-branches",
    "09h-loop_restart-transient",
    "12a-stall-watchdog",
)
IN_ONE_PROCESS = (RETRIED, FANNED_OUT, RESTARTED, STALLED)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("golden")


@pytest.fixture(scope="module")
def ended(prefect: Prefect, folder: Path) -> dict[str, Answer]:
    """The runs that need no command of their own, one after the other."""
    requests = [_request(case, folder) for case in IN_ONE_PROCESS]
    done = answers(requests, environment=prefect.environment, folder=folder, within_s=280)
    return {answer.name: answer for answer in done}


def _request(case: str, folder: Path) -> Request:
    place = folder / case
    place.mkdir()
    given = parameters_of(case, place)
    return Request(name=case, graph=given.graph, inputs=given.inputs, repo=given.repo, options=given.options.model_dump())


@pytest.mark.parametrize("case", IN_ONE_PROCESS)
def test_a_recorded_run_comes_to_the_same_on_prefect(
    prefect: Prefect, ended: dict[str, Answer], folder: Path, case: str
) -> None:
    """In everything that its record tells; the flow run's state says the same."""
    assert not ended[case].refusal
    require_agreement(case, our_account(case, folder / case / "run", ended[case].exit_code))
    final = json.loads((folder / case / "run" / "final.json").read_text(encoding="utf-8"))
    assert prefect.final_state(final["flow_run_id"])["type"] == ("COMPLETED" if final["status"] == "success" else "FAILED")


def test_a_run_that_is_stopped_by_the_command_comes_to_the_same(prefect: Prefect, tmp_path: Path) -> None:
    """The first stop succeeds, the second finds nothing to stop, status works on: as recorded."""
    given, run = parameters_of(STOPPED, tmp_path), tmp_path / "run"
    (tmp_path / "stopped.dot").write_text(given.graph, encoding="utf-8")
    log = run / "slow" / "stdout.log"
    command = [*KILROY, "run", str(tmp_path / "stopped.dot"), "--logs-root", str(run)]
    with subprocess.Popen(command, cwd=given.repo, env=prefect.environment, stdout=subprocess.DEVNULL) as process:
        try:
            eventually(
                lambda: process.poll() is not None or (log.exists() and "begin" in log.read_text()),
                what="the stage to be stopped",
            )
            codes = [_exit_code(prefect, command, str(run)) for command in ("stop", "stop", "status")]
            exit_code = process.wait(timeout=60)
        finally:
            process.kill()
    assert codes == recorded(STOPPED)["later_exit_codes"]
    require_agreement(STOPPED, our_account(STOPPED, run, exit_code))


def _exit_code(prefect: Prefect, *arguments: str) -> int:
    done = subprocess.run([*KILROY, *arguments], env=prefect.environment, capture_output=True, timeout=90, check=False)
    return done.returncode
