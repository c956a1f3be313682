"""What a fan-in reads of the branches before it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from kilroy_engine.handlers.base import FanIn, StageRequest
from kilroy_engine.handlers.parallel import FanInHandler
from kilroy_engine.rundir.files.artifacts import LIMIT_BYTES, encoded, keep_artifact
from kilroy_engine.rundir.files.layout import RunDirectory
from kilroy_engine.rundir.stages.branches import BranchRecord, shown_results
from kilroy_engine.traversal.fanin import RESULTS_KEY
from kilroy_engine.traversal.outcome import failure, success


def test_results_that_became_a_file_are_read_from_it(tmp_path: Path, request_for: Callable[..., StageRequest]) -> None:
    """Many branches with long notes are more than the context holds: the fan-in chooses among them all the same."""
    results = [
        BranchRecord(
            branch_key=f"b{number:03}",
            start_node_id=f"b{number:03}",
            stop_node_id="a",
            outcome=success("n" * 1900) if number > 40 else failure("f" * 1900),
        )
        for number in range(60)
    ]
    shown = shown_results(results)
    reference = keep_artifact(RunDirectory(tmp_path), "p@1", RESULTS_KEY, shown)
    context = {RESULTS_KEY: reference.as_json()}
    answer = FanInHandler(lambda node: None)(request_for("a [shape=tripleoctagon]", context=context))

    assert len(encoded(shown)) > LIMIT_BYTES
    assert isinstance(answer, FanIn)
    assert [result.branch_key for result in answer.results] == [result.branch_key for result in results]
    assert answer.winner.branch_key == "b041"
