"""Checks whether a file in the work folder ends a loop. Called when a stage is over."""

from __future__ import annotations

from pathlib import Path

from kilroy_engine.errors import RunDirectoryError
from kilroy_engine.graph.loops import Loop, loop_at
from kilroy_engine.graph.model import Graph, Node
from kilroy_engine.limits import TEXT_BYTES
from kilroy_engine.rundir.files.inside import read_inside
from kilroy_engine.traversal.outcome import Outcome


def with_loop_files(graph: Graph, node: Node, outcome: Outcome, work_dir: Path, *, simulate: bool) -> Outcome:
    """``outcome`` with ``loop_file_seen``: whether a file ends the loop at ``node`` now. Unchanged if no loop ends at ``node``.

    In a simulated run no stage writes the file, so the file counts as seen.
    """
    loop = loop_at(graph, node)
    if loop is None:
        return outcome
    simulated = simulate and bool(loop.until_file or loop.until_contains[0])
    return outcome.with_updates(loop_file_seen=simulated or file_ends(loop, work_dir))


def file_ends(loop: Loop, work_dir: Path) -> bool:
    """Whether the file ``loop_until_file`` exists, or the file of ``loop_until_file_contains`` holds its text."""
    if loop.until_file and (work_dir / loop.until_file).exists():
        return True
    path, wanted = loop.until_contains
    return bool(path) and wanted.encode() in _content(work_dir, path)


def _content(work_dir: Path, path: str) -> bytes:
    try:
        return read_inside(work_dir, path, limit_bytes=TEXT_BYTES) or b""
    except RunDirectoryError:
        return b""  # no readable file inside of the place of work: the loop does not end
