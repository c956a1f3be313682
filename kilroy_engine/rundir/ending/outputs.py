"""The outputs that a pipeline declares: copied from the work folder at the end of the run, and listed in ``outputs.json``."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from kilroy_engine.rundir.files.atomic import TEMPORARY_PREFIX, write_json
from kilroy_engine.rundir.files.copies import copy_file, copy_tree, size_bytes
from kilroy_engine.rundir.files.inside import make_way_to, path_inside
from kilroy_engine.rundir.files.layout import RunDirectory
from kilroy_engine.rundir.files.regular import make_way


@dataclass(frozen=True, slots=True)
class Output:
    """An entry of ``outputs.json``. ``path`` and ``size_bytes`` describe the copy, if the output was found; ``path`` is
    absolute.
    """

    name: str
    path: str = ""
    found: bool = False
    size_bytes: int = 0

    def to_json(self) -> dict[str, object]:
        """The entry with Kilroy's keys. ``path`` and ``size_bytes`` are left out where the output was not found."""
        entry: dict[str, object] = {"name": self.name, "found": self.found}
        return {**entry, "path": self.path, "size_bytes": self.size_bytes} if self.found else entry


def declared_outputs(text: str) -> tuple[str, ...]:
    """The names in an ``outputs`` attribute: a comma-separated list of paths relative to the work folder."""
    return tuple(name for part in text.split(",") if (name := part.strip()))


def collect_outputs(run: RunDirectory, names: Sequence[str], work_dir: Path) -> tuple[Output, ...]:
    """Copies the declared files and folders to ``outputs/`` and writes ``outputs.json``. Without ``names`` nothing is written.

    A name that leads out of the work folder, by ``..`` or by a link, counts as not found. A pipe or socket does too.
    """
    if not names:
        return ()
    outputs = tuple(_collect(run, name, work_dir) for name in names)
    write_json(run.outputs_index, [output.to_json() for output in outputs], durable=False)
    return outputs


def _collect(run: RunDirectory, name: str, work_dir: Path) -> Output:
    relative = PurePosixPath(name)
    source = path_inside(work_dir, name)
    if relative.is_absolute() or ".." in relative.parts or source is None or not (source.is_dir() or source.is_file()):
        return Output(name)
    target = run.outputs / relative
    make_way_to(run.path, target.parent)
    temporary = target.with_name(f"{TEMPORARY_PREFIX}{target.name}")
    shutil.rmtree(temporary, ignore_errors=True)
    if source.is_dir():
        copy_tree(source, temporary)
        make_way_to(run.path, target)
        shutil.rmtree(target)
    else:
        copy_file(source, temporary)
        make_way(target)
    temporary.rename(target)
    return Output(name, str(target), found=True, size_bytes=size_bytes([target]))
