"""A node's ``outputs``: the files that the node's stage must leave in the place of work (Kilroy: output contracts)."""

from __future__ import annotations

from pathlib import Path

from kilroy_engine.graph.model import Node
from kilroy_engine.rundir.ending.outputs import declared_outputs
from kilroy_engine.rundir.files.inside import path_inside


def missing_outputs(node: Node, work_dir: Path) -> tuple[str, ...]:
    """Paths of the node's ``outputs`` that are neither file nor folder. They are comma-separated and relative to ``work_dir``.

    A path that leads out of ``work_dir`` counts as missing.
    """
    return tuple(path for path in declared_outputs(node.text("outputs")) if not _is_there(work_dir, path))


def _is_there(root: Path, path: str) -> bool:
    target = path_inside(root, path)
    return target is not None and (target.is_file() or target.is_dir())
