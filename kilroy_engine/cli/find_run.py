"""Finds the run that a person names: by an id, the beginning of an id, a path, or as the latest run."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from kilroy_engine.errors import RunDirectoryError
from kilroy_engine.rundir.files.layout import RunDirectory, runs_root

LATEST = ""
_SHOWN_CANDIDATES = 5


def root_of_runs(given: Path | None) -> Path:
    """The folder of run directories: ``given``, the value of ``--runs-root``, or else the environment's."""
    return given.expanduser().absolute() if given else runs_root(os.environ)


def all_runs(root: Path) -> list[RunDirectory]:
    """Every run directory under ``root``, sorted by path. Empty where ``root`` does not exist."""
    try:
        entries = sorted(root.iterdir())
    except FileNotFoundError:
        return []
    return [run for run in map(RunDirectory, entries) if is_run(run)]


def is_run(run: RunDirectory) -> bool:
    """Whether the folder is a run directory, damaged or not. A run that has just been opened may have its lock file only."""
    try:
        names = {entry.name for entry in os.scandir(run.path)}
    except NotADirectoryError:
        return False
    except OSError as error:
        return error.errno == errno.EACCES  # the function that reads the run reports the error
    return not names.isdisjoint(file.name for file in (run.manifest, run.progress, run.lock))


def find_run(reference: str, root: Path) -> RunDirectory:
    """The run that ``reference`` names: a path, an id, a unique beginning of an id, or "" for the latest run.

    Raises:
        RunDirectoryError: ``reference`` names no run, or more than one.
    """
    if reference == LATEST:
        return latest_run(root)
    path = Path(reference).expanduser()
    if _names_a_path(reference):
        if not is_run(RunDirectory(path)):
            raise RunDirectoryError(f"{reference} is no run directory (it has no manifest.json or progress.ndjson)", path=path)
        return RunDirectory(path.absolute())
    runs = all_runs(root)
    exact = [run for run in runs if run.path.name == reference]
    found = exact or [run for run in runs if run.path.name.lower().startswith(reference.lower())]
    if len(found) == 1:
        return found[0]
    if found:
        names = [run.path.name for run in found]
        more = ", ..." if len(names) > _SHOWN_CANDIDATES else ""
        shown = ", ".join(names[:_SHOWN_CANDIDATES])
        raise RunDirectoryError(f"{len(names)} runs begin with {reference!r}: {shown}{more}; give more of the id", path=root)
    if is_run(RunDirectory(path)):
        return RunDirectory(path.absolute())
    raise RunDirectoryError(
        f"no run {reference!r} in {root}; `kilroy runs list` shows the runs, one elsewhere is named by its path",
        path=root,
    )


def latest_run(root: Path) -> RunDirectory:
    """The run below ``root`` whose latest start began last.

    Raises:
        RunDirectoryError: There is no run below ``root``.
    """
    runs = all_runs(root)
    if not runs:
        raise RunDirectoryError(f"no runs in {root} yet; `kilroy run FILE` starts one", path=root)
    return max(runs, key=_opened_at)


def _names_a_path(reference: str) -> bool:
    return os.sep in reference or reference in (os.curdir, os.pardir) or reference.startswith("~")


def _opened_at(run: RunDirectory) -> float:
    """When the run's latest start began, in seconds since the epoch: the time of ``run.pid``, which each start writes once, or
    else the time of the manifest or the folder."""
    for file in (run.pid, run.manifest, run.path):
        try:
            return file.lstat().st_mtime
        except OSError:
            continue  # missing, or just removed by `kilroy runs prune`
    return 0.0
