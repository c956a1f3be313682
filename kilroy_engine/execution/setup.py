"""Prepares the place of work before a start's first stage: restores it to the checkpoint, runs the set-up commands (Kilroy)."""

from __future__ import annotations

import math
import time

from kilroy_engine.errors import WorkspaceError
from kilroy_engine.events import SetupCommandFailed, SetupCommandOk, SetupCommandStart, WarningGiven
from kilroy_engine.execution.opening import OpenedRun
from kilroy_engine.processes.command import Command, Ending, run_command
from kilroy_engine.rundir.files.inside import make_way_to
from kilroy_engine.rundir.files.regular import read_part
from kilroy_engine.workspace.kilroy_folder import KilroyFolder

SETUP_DIRECTORY = "run.setup"
"""Folder for the output of set-up commands. No node can have this id, because ``run.*`` is reserved."""


class SetupFailed(Exception):
    """The place of work could not be prepared. The exception's text is the run's failure reason."""


def bring_back(opened: OpenedRun) -> None:
    """Puts the place of work of a resumed run back to its checkpoint's commit, after ending the processes of the earlier start.

    Raises:
        SetupFailed: git refused.
    """
    run, lane = opened.run, opened.lane
    if opened.restore_to is None:
        return
    run.end_processes()
    if run.is_child:
        return  # the outer run owns the folder; it was put back there, and `advance` has moved it on to the child's last commit
    try:
        lane.workspace.restore(opened.restore_to)
    except WorkspaceError as error:
        raise SetupFailed(str(error)) from error
    folder = KilroyFolder(lane.workspace.path, lambda message: lane.emit(WarningGiven(message=message)))
    folder.prepare(dict(opened.prepared.inputs), run.directory.package)


def run_setup_commands(opened: OpenedRun) -> None:
    """Runs the set-up commands one after the other with ``sh -c`` (Kilroy: setup.commands). All of them together may take
    ``setup_timeout_s``.

    Raises:
        SetupFailed: A command failed, or the time is up.
        RunCanceled: A stop was requested.
    """
    lane, cancellation = opened.lane, opened.run.cancellation
    limit_s = lane.settings.setup_timeout_s or math.inf
    ends = time.monotonic() + limit_s
    for index, command in enumerate(lane.settings.setup_commands):
        lane.emit(SetupCommandStart(index=index, command=command))
        folder = lane.base.path / SETUP_DIRECTORY / str(index)
        make_way_to(lane.base.path, folder)
        end = run_command(
            Command(
                argv=("sh", "-c", command),
                work_dir=lane.workspace.path,
                environment=lane.environment,
                stage_dir=folder,
                timeout_s=max(0.1, ends - time.monotonic()),
            ),
            cancellation=cancellation,
        )
        cancellation.raise_if_requested()
        stdout, stderr = (
            read_part(folder / f"{name}.log", 16000, end=True).decode("utf-8", "replace").strip()[-4000:]
            for name in ("stdout", "stderr")
        )
        if end.ending is Ending.EXITED and end.exit_code == 0:
            lane.emit(SetupCommandOk(index=index, command=command, stdout=stdout))
            continue
        error = f"timed out after {limit_s:g}s" if end.ending is Ending.TIMED_OUT else _exit(end.exit_code)
        lane.emit(SetupCommandFailed(index=index, command=command, error=error, stdout=stdout, stderr=stderr))
        raise SetupFailed(f"setup command {index} failed: {error}: {command}")


def _exit(code: int) -> str:
    return f"exit status {code}" if code >= 0 else f"signal {-code}"
