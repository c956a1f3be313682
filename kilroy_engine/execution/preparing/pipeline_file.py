"""Reads a pipeline's text from a path or from the parameter itself. Imports little, because every command that looks at a
pipeline loads this module."""

from __future__ import annotations

import errno
import os
from functools import partial
from pathlib import Path

from kilroy_engine.errors import PipelineNotFound, RunDirectoryError
from kilroy_engine.graph.checks.child_validation import ChildText, ReadChild
from kilroy_engine.limits import TEXT_BYTES, megabytes
from kilroy_engine.rundir.files.inside import path_inside, read_inside
from kilroy_engine.rundir.files.regular import kind_at

INLINE = "<inline>"
PACKAGE_GRAPH = "graph.dot"
PACKAGE_FILE = "workflow.toml"


def is_folder(graph: str, *, base: Path | None = None) -> bool:
    """Whether the parameter ``graph`` names a folder, which is a workflow package."""
    return "{" not in graph and bool(graph.strip()) and ((base or Path.cwd()) / Path(graph).expanduser()).is_dir()


def pipeline_file(graph: str) -> str:
    """Path of the DOT file that ``graph`` names, directly or as a folder with a pipeline in it.

    Raises:
        PipelineNotFound: The folder has no pipeline, or several.
    """
    return str(Path(graph) / _pipeline_in(Path(graph).expanduser(), graph).name) if is_folder(graph) else graph


def name_by_file(filename: str) -> str:
    """A name for a pipeline whose graph has none: the file's name without suffix, or the folder's name for ``graph.dot``."""
    path = Path(filename)
    return path.absolute().parent.name if path.name == PACKAGE_GRAPH else path.stem


def read_pipeline(graph: str, *, base: Path | None = None) -> tuple[str, str]:
    """Text and file name of a pipeline. ``graph`` is a path, a folder with a pipeline in it, or DOT text.

    Raises:
        PipelineNotFound: The file does not exist, cannot be read, is too large, or is not UTF-8 text.
    """
    if "{" in graph:
        return graph, INLINE
    path = (base or Path.cwd()) / Path(graph).expanduser()
    if not graph.strip():
        raise PipelineNotFound("no pipeline given: name a DOT file, or pass DOT text", path=path)
    if not path.exists():
        raise PipelineNotFound(f"pipeline file {graph} does not exist (looked in {path.absolute().parent})", path=path)
    if path.is_dir():
        path = _pipeline_in(path, graph)
        graph = str(Path(graph) / path.name)
    try:
        with path.open("rb") as stream:  # the path may be a pipe: `kilroy run <(generate)`
            raw = stream.read(TEXT_BYTES + 1)
    except OSError as error:
        raise PipelineNotFound(f"pipeline file {graph} cannot be read: {error.strerror}", path=path) from error
    if len(raw) > TEXT_BYTES:
        raise PipelineNotFound(f"{graph} is larger than {megabytes(TEXT_BYTES)}; that is no pipeline", path=path)
    try:
        return raw.decode("utf-8"), graph
    except UnicodeDecodeError as error:
        raise PipelineNotFound(
            f"{graph} is not UTF-8 text (byte {error.start} is {raw[error.start]:#04x}); a pipeline is a DOT text file",
            path=path,
        ) from error


def read_prompt(folder: Path, name: str) -> str:
    """The text of a prompt file, which must be in ``folder`` or below. ``folder`` is the folder of the pipeline that names the
    file.

    Raises:
        FileNotFoundError: The file does not exist.
        ValueError: The path leads out of the folder, or names no file, too large a file, or no UTF-8 text.
    """
    if path_inside(folder, name) is None:
        raise ValueError(f"it leads out of {folder}; a prompt file lies in the pipeline's folder or below")
    try:
        content = read_inside(folder, name, limit_bytes=TEXT_BYTES)
    except RunDirectoryError as error:
        raise ValueError(str(error)) from error
    if content is None:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(folder / name))
    return content.decode("utf-8")


def find_child(name: str, *folders: Path) -> Path | None:
    """The file of a child pipeline: ``name`` in the first of ``folders`` that has it; None if no folder has it.

    Raises:
        PipelineNotFound: ``name`` is a folder, a pipe or another thing that is no file.
    """
    candidates = (folder / Path(name).expanduser() for folder in folders)
    found = next((path.absolute() for path in candidates if path.exists()), None)
    if found is not None and found.is_dir():
        raise PipelineNotFound(f"the child pipeline {name} is a folder; name the DOT file in it", path=found)
    if found is not None and not found.is_file():
        raise PipelineNotFound(f"the child pipeline {name} is {kind_at(found.resolve())}, and a file is expected", path=found)
    return found


def child_reader(folder: Path) -> ReadChild:
    """A function that reads child pipelines for the checks. Children of the outermost pipeline are in ``folder``, their
    children beside them."""

    def read(name: str, named_in: str) -> ChildText | None:
        path = find_child(name, Path(named_in).parent if named_in else folder)
        if path is None:
            return None
        text, _ = read_pipeline(str(path))
        return ChildText(text, str(path.resolve()), partial(read_prompt, path.parent))

    return read


def _pipeline_in(folder: Path, shown: str) -> Path:
    """The pipeline of a package: ``graph.dot``, or the only DOT file (Kilroy)."""
    if (folder / PACKAGE_GRAPH).is_file():
        return folder / PACKAGE_GRAPH
    found = sorted(folder.glob("*.dot"))
    if len(found) == 1:
        return found[0]
    if not found:
        raise PipelineNotFound(f"{shown} is a directory without a pipeline; put {PACKAGE_GRAPH} there", path=folder)
    names = ", ".join(file.name for file in found)
    raise PipelineNotFound(
        f"{shown} is a directory with several pipelines ({names}); name one of them, or call the package's {PACKAGE_GRAPH}",
        path=folder,
    )
