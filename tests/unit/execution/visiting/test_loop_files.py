"""What the work folder says about the end of a loop."""

from __future__ import annotations

from pathlib import Path

import pytest

from kilroy_engine.execution.visiting.loop_files import with_loop_files
from kilroy_engine.graph.dot.parse import parse_dot
from kilroy_engine.rundir.stages.stage_files import decode_status
from kilroy_engine.traversal.outcome import success


def seen(work_dir: Path, attributes: str, *, simulate: bool = False) -> object:
    graph = parse_dot(f"digraph g {{ s [shape=Mdiamond] x [shape=Msquare] a [label=a, {attributes}] s -> a -> x }}")
    return with_loop_files(graph, graph.nodes["a"], success(), work_dir, simulate=simulate).loop_file_seen


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        ("loop_until_file=done", True),
        ("loop_until_file=folder", True),
        ("loop_until_file=missing", False),
        ('loop_until_file_contains="log.txt:APPROVED"', True),
        ('loop_until_file_contains=" log.txt : at 12:30 "', True),
        ('loop_until_file_contains="log.txt:REJECTED"', False),
        ('loop_until_file_contains="missing:APPROVED"', False),
        ('loop_until_file_contains="folder:APPROVED"', False),
        ("loop_count=3", False),
        ("loop_max=3", None),
    ],
)
def test_a_file_is_looked_up_in_the_work_folder(tmp_path: Path, attributes: str, expected: bool | None) -> None:
    """Kilroy 3.11: a path that exists, or a file that holds the text, whatever its encoding; None where no loop asks."""
    (tmp_path / "done").touch()
    (tmp_path / "folder").mkdir()
    (tmp_path / "log.txt").write_bytes(b"\xff\xfe APPROVED at 12:30\n")
    assert seen(tmp_path, attributes) is expected


def test_an_absolute_path_is_taken_as_it_is(tmp_path: Path) -> None:
    """As in Kilroy: a loop may wait for something outside of the work folder."""
    (tmp_path / "outside").touch()
    assert seen(tmp_path / "elsewhere", f'loop_until_file="{tmp_path}/outside"') is True


def test_a_stage_cannot_claim_that_its_file_was_seen(tmp_path: Path) -> None:
    """What a status.json says in ``meta`` is not what the folder says."""
    graph = parse_dot("digraph g { s [shape=Mdiamond] x [shape=Msquare] a [label=a, loop_count=3] s -> a -> x }")
    claimed = decode_status(b'{"status": "success", "meta": {"loop_file_seen": true, "own": 1}}', tmp_path)
    outcome = with_loop_files(graph, graph.nodes["a"], claimed, tmp_path, simulate=False)
    assert (outcome.loop_file_seen, outcome.meta) == (False, {"loop_file_seen": True, "own": 1})


def test_a_simulated_run_does_not_wait_for_a_file_that_nobody_writes(tmp_path: Path) -> None:
    """Its tools do not run; a loop with a count has all its iterations all the same."""
    assert seen(tmp_path, "loop_until_file=missing", simulate=True) is True
    assert seen(tmp_path, 'loop_until_file_contains="missing:x"', simulate=True) is True
    assert seen(tmp_path, "loop_count=3", simulate=True) is False
