"""A node's ``outputs``: the files that it must leave in its place of work (Kilroy: output contracts)."""

from __future__ import annotations

from pathlib import Path

from kilroy_engine.graph.model import Node


def missing_outputs(node: Node, work_dir: Path) -> tuple[str, ...]:
    """Paths of the node's ``outputs`` (comma-separated, relative to ``work_dir``) that are neither file nor folder there.

    A path that leads out of ``work_dir`` counts as missing.
    """
    declared = (part.strip() for part in node.text("outputs").split(","))
    root = work_dir.resolve()
    return tuple(path for path in declared if path and not _is_there(root, path))


def _is_there(root: Path, path: str) -> bool:
    target = (root / path).resolve()
    return target.is_relative_to(root) and target.exists()
