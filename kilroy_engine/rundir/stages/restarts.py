"""``restart-N/``: the directory that a run goes on in after a ``loop_restart`` edge.

The directory gets its name once it holds all that a resume needs, with the first checkpoint. So a run always goes on in the
latest ``restart-N/`` that exists.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from kilroy_engine.errors import RunDirectoryError
from kilroy_engine.events.times import now
from kilroy_engine.rundir.files.atomic import TEMPORARY_PREFIX, sync_folder, write_bytes
from kilroy_engine.rundir.files.checkpoint import save_checkpoint
from kilroy_engine.rundir.files.failpoints import failpoint
from kilroy_engine.rundir.files.layout import RunDirectory
from kilroy_engine.rundir.files.records import Manifest
from kilroy_engine.rundir.files.regular import read_file
from kilroy_engine.traversal.state import RunState


def make_restart(run: RunDirectory, state: RunState, *, git_commit_sha: str) -> RunDirectory:
    """Makes the directory of the restart that begins in ``state``, at the commit ``git_commit_sha``.

    Raises:
        RunDirectoryError: The disk refused, or the directory exists.
    """
    restart = run.restart(state.restart_count)
    unnamed = RunDirectory(run.path / f"{TEMPORARY_PREFIX}{restart.path.name}")
    failpoint("restart", "before")
    try:
        if unnamed.path.exists():
            shutil.rmtree(unnamed.path)  # left by a start that was killed here
        unnamed.path.mkdir()
        _write_records(run, restart, into=unnamed)
        save_checkpoint(unnamed, state, git_commit_sha=git_commit_sha, base=run)
        failpoint("restart", "rename")
        unnamed.path.rename(restart.path)
        sync_folder(run.path)
    except OSError as error:
        raise RunDirectoryError(f"cannot make {restart.path}: {error.strerror}", path=restart.path) from error
    failpoint("restart", "after")
    return restart


def write_restart_records(run: RunDirectory, restart: RunDirectory) -> None:
    """Writes manifest.json, run_config.json and graph.dot of a restart: copies of the run's files, with the paths of the
    restart. Called when a resume goes on in the restart.
    """
    _write_records(run, restart, into=restart)


def _write_records(run: RunDirectory, restart: RunDirectory, *, into: RunDirectory) -> None:
    """Writes the records of ``restart`` into the directory ``into``, which may still have a temporary name."""
    _copy(run.run_config, into.run_config)
    _copy(run.graph_dot, into.graph_dot)
    places = {
        "logs_root": str(restart.path),
        "graph_dot": str(restart.graph_dot),
        "run_config_path": str(restart.run_config),
        "started_at": now(),
    }
    Manifest.read(run).model_copy(update=places).write(into)


def _copy(source: Path, target: Path) -> None:
    content = read_file(source)
    if content is not None:
        write_bytes(target, content)
