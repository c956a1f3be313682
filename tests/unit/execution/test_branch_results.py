"""What a branch came to, on its way to the fan-in: returned by its run, encoded in one way, read once."""

from __future__ import annotations

import json
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path

import pytest
from in_process import InProcess, run_pipeline

from kilroy_engine.execution.ports import BranchAtWork, BranchEnd, BranchRunner
from kilroy_engine.execution.preparing.preparation import RunParameters
from kilroy_engine.rundir.files.checkpoint import load_checkpoint
from kilroy_engine.rundir.files.layout import RunDirectory
from kilroy_engine.rundir.stages.branches import BranchRecord, read_shown
from kilroy_engine.settings.options import Options
from kilroy_engine.traversal.outcome import FinalStatus, Outcome

NOTES = "n" * 3000
GRAPH = """digraph g { node [shape=parallelogram] start [shape=Mdiamond] done [shape=Msquare]
p [shape=component] j [shape=tripleoctagon]
good [tool_command="printf '{\\"status\\": \\"success\\", \\"notes\\": \\"%s\\"}' NOTES > $KILROY_STAGE_LOGS_DIR/status.json"]
bad [tool_command="exit 3"]
start -> p p -> good -> j p -> bad -> j j -> done }""".replace("NOTES", NOTES)


class OneWay(InProcess):
    """Branches whose result is lost on one of its two ways: with their run (``returned``), or on the disk."""

    def __init__(self, *, returned: bool) -> None:
        super().__init__()
        self.returned = returned

    @contextmanager
    def branches(self, size: int) -> Generator[BranchRunner]:
        with super().branches(size) as threads:
            yield _OneWay(threads, self.returned)


class _OneWay:
    def __init__(self, threads: BranchRunner, returned: bool) -> None:
        self.threads, self.returned = threads, returned

    def submit(self, branch: BranchAtWork, answered: Callable[[], None]) -> Callable[[], BranchEnd]:
        ended = self.threads.submit(branch, answered)

        def found() -> BranchEnd:
            end = ended()
            assert end.result is not None
            if self.returned:
                Path(end.result.logs_root, "result.json").unlink()
                return end
            return BranchEnd(told="the connection was lost")

        return found


def run(path: Path, orchestrator: InProcess) -> RunDirectory:
    options = Options(logs_root=str(path), workspace="plain")
    assert run_pipeline(RunParameters(GRAPH, options=options), orchestrator).status is FinalStatus.SUCCESS
    return RunDirectory(path)


@pytest.mark.parametrize("returned", [True, False], ids=["on the disk", "with the branch's run"])
def test_a_result_that_is_lost_on_one_way_comes_on_the_other(tmp_path: Path, returned: bool) -> None:
    """A branch's run returns its result; the disk has it too, for a run whose answer does not arrive."""
    directory = run(tmp_path / "run", OneWay(returned=returned))

    results = json.loads((directory.stage("p") / "parallel_results.json").read_bytes())
    assert [(result["branch_key"], result["outcome"]["status"]) for result in results] == [("bad", "fail"), ("good", "success")]
    assert load_checkpoint(directory).state.context["parallel.fan_in.best_id"] == "good"


def test_a_result_has_one_shape_wherever_it_stands(tmp_path: Path) -> None:
    """The branch's record, ``parallel_results.json`` and the context value are the same, but for long texts in the context."""
    directory = run(tmp_path / "run", InProcess())

    whole = json.loads((directory.stage("p") / "parallel_results.json").read_bytes())
    records = [json.loads(path.read_bytes()) for path in directory.path.glob("parallel/p/pass1/*/result.json")]
    assert sorted(records, key=lambda record: str(record["branch_key"])) == whole
    shown = load_checkpoint(directory).state.context["parallel.results"]
    assert json.dumps(whole).replace(NOTES, NOTES[:2000] + " …") == json.dumps(shown).replace("\\u2026", "…")
    assert [result.branch_key for result in read_shown(shown)] == ["bad", "good"]


def test_what_an_agent_put_among_the_results_is_left_out() -> None:
    """Any stage may set any context key; the fan-in takes what is a result."""
    record = BranchRecord(branch_key="b", start_node_id="b", stop_node_id="j", outcome=Outcome("success"))
    entries = ["text", 7, {"branch_key": "x"}, {**record.to_json(), "outcome": {"no": "status"}}, record.to_json()]
    assert read_shown(entries) == [record]  # type: ignore[arg-type]
    assert read_shown("text") == []
