"""Recorded runs of Kilroy, carried out again by this engine: real tools and real git, by the in-process orchestrator."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from golden import (
    CASES,
    DIFFERENCES,
    DIRTY,
    GRAPH_TOPIC,
    MISSING,
    OWN_EVENTS,
    OWN_FINAL_KEYS,
    PUSHED,
    REWRITES,
    STOPPED,
    our_account,
    parameters_of,
    recorded,
    require_agreement,
)
from in_process import run_pipeline
from polling import eventually

from kilroy_engine.cli.errors import exit_code_of
from kilroy_engine.errors import InvalidInput, StopKind
from kilroy_engine.rundir.ending.cancel import request_cancel
from kilroy_engine.rundir.files.layout import RunDirectory
from kilroy_engine.rundir.files.records import FinalOutcome

CONFORMANCE = Path(__file__).parents[2] / "docs" / "reference" / "conformance.md"


def carried_out(case: str, folder: Path) -> FinalOutcome:
    """The case from its beginning to its end, compared with what was recorded."""
    final = run_pipeline(parameters_of(case, folder), base=folder)
    require_agreement(case, our_account(case, folder / "run", exit_code_of(final.status)))
    return final


@pytest.mark.parametrize("case", [case for case in CASES if case not in (MISSING, STOPPED, PUSHED, DIRTY)])
def test_a_recorded_run_comes_to_the_same(tmp_path: Path, case: str) -> None:
    """In everything that its record tells; a run that leaves Kilroy's way does so where it is declared."""
    carried_out(case, tmp_path)


def test_a_run_that_is_stopped_comes_to_the_same(tmp_path: Path) -> None:
    """The request in the run directory is what ``kilroy stop`` leaves there."""
    run, log = RunDirectory(tmp_path / "run"), tmp_path / "run" / "slow" / "stdout.log"
    with ThreadPoolExecutor(1) as thread:
        carrying = thread.submit(carried_out, STOPPED, tmp_path)
        eventually(lambda: carrying.done() or (log.exists() and "begin" in log.read_text()), what="the stage to be stopped")
        request_cancel(run, StopKind.PERSON, "by kilroy stop")
        assert carrying.result().status == "canceled"


def test_what_was_pushed_is_what_the_run_ended_with(tmp_path: Path) -> None:
    """``git_push_ok`` is true: the remote's branch is at the final commit."""
    final = carried_out(PUSHED, tmp_path)
    heads = [path for path in (tmp_path / "origin.git" / "refs" / "heads").rglob("*") if path.is_file()]
    assert [head.read_text(encoding="utf-8").strip() for head in heads] == [final.final_git_commit_sha]


def test_uncommitted_work_is_left_alone(tmp_path: Path) -> None:
    """The user's files stay as they were, and the stage's file of the same name is on the run's branch."""
    carried_out(DIRTY, tmp_path)
    repository = tmp_path / "repository"
    assert (repository / "README.md").read_text(encoding="utf-8") == "Changed.\n"
    assert (repository / "a.txt").read_text(encoding="utf-8") == "never committed\n"


def test_a_run_without_its_inputs_is_refused_in_the_same_words(tmp_path: Path) -> None:
    """Ours with the way to mend it, and without a run directory."""
    with pytest.raises(InvalidInput, match=re.escape(recorded(MISSING)["stderr"][0])):
        run_pipeline(parameters_of(MISSING, tmp_path), base=tmp_path)
    assert not (tmp_path / "run").exists()


def test_every_difference_is_a_row_of_the_conformance_page() -> None:
    """Rewrites and differences name a topic that is there; the row of our own events and keys names each of them."""
    rows = dict(re.findall(r"^\| (.+?) \| (.+?) \|", CONFORMANCE.read_text(encoding="utf-8"), re.MULTILINE))
    topics = {GRAPH_TOPIC, *(rewrite.topic for rewrite in REWRITES), *(declared.topic for declared in DIFFERENCES.values())}
    assert topics <= set(rows)
    assert [name for name in OWN_EVENTS if f"`{name}`" not in rows["more events"]] == []
    assert [key for key in OWN_FINAL_KEYS if f"`{key}`" not in rows["keys of `final.json`"]] == []
    assert set(DIFFERENCES) <= set(CASES)
