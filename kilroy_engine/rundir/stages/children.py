"""Child pipelines in a run directory: their directories, their progress, and the child that a resumed run goes on with."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

from pydantic import Field

from kilroy_engine.errors import RunDirectoryError
from kilroy_engine.events import CheckpointSaved, StageAttemptEnd, StageAttemptStart
from kilroy_engine.limits import TEXT_BYTES
from kilroy_engine.rundir.files.atomic import write_text
from kilroy_engine.rundir.files.checkpoint import load_checkpoint
from kilroy_engine.rundir.files.layout import RunDirectory
from kilroy_engine.rundir.files.records import FinalOutcome, Manifest, Record
from kilroy_engine.rundir.files.regular import is_real_folder, make_folder, read_file
from kilroy_engine.rundir.stream.progress import is_ended
from kilroy_engine.rundir.stream.reader import tail_events
from kilroy_engine.traversal.outcome import FinalStatus, Status
from kilroy_engine.traversal.supervision import ChildFacts, ChildStatus

_log = logging.getLogger(__name__)
_VISIT = re.compile(r"visit_(\d+)\Z")
_SKIPPED_FOLDERS = frozenset({"worktree", "artifacts", "outputs", "input_snapshot"})
_STATUSES = {
    FinalStatus.SUCCESS: ChildStatus.COMPLETED,
    FinalStatus.FAIL: ChildStatus.FAILED,
    FinalStatus.CANCELED: ChildStatus.CANCELED,
}


class SupervisorRecord(Record):
    """`<node_id>/child/supervisor.json`: the node and the run that a child pipeline belongs to. The child ends with the run."""

    mend: ClassVar[str] = "Remove the child's folder; the child pipeline then begins anew."

    run_id: str = Field(description="id of the run around it")
    node_id: str = Field(description="the node that runs it")
    start: int = Field(default=1, ge=1, description="start of the run around it, the latest that worked on it")
    finished_visits: int = Field(default=0, ge=0, description="visits of the node that were over before it began")
    name: str = Field(default="", description="what its fan-outs' git branches begin with; no other child of the run has it")

    @staticmethod
    def path_in(run: RunDirectory) -> Path:
        return run.supervisor


def child_directory(stage_dir: Path) -> RunDirectory:
    """`<node_id>/child/`: the child pipeline of the node's latest visit."""
    return RunDirectory(stage_dir / "child")


def child_directories(run: RunDirectory) -> Iterator[RunDirectory]:
    """The directories of all child pipelines in ``run``, also in branches, restarts, earlier visits and other child pipelines.
    A child pipeline comes before those inside of it.
    """
    for folder, subfolders, names in os.walk(run.path):
        subfolders[:] = sorted(name for name in subfolders if name not in _SKIPPED_FOLDERS)
        child = RunDirectory(Path(folder))
        if child.supervisor.name in names and child.path != run.path:
            yield child


def set_aside(stage_dir: Path, attempt: int) -> None:
    """Moves the child pipeline of the attempt before ``attempt`` to ``attempt_<n-1>/``. Called before each attempt after the
    first.
    """
    child = child_directory(stage_dir).path
    if os.path.lexists(child):
        kept = stage_dir / f"attempt_{attempt - 1}"
        make_folder(kept)
        child.rename(kept / child.name)


def earlier_child(stage_dir: Path) -> RunDirectory | None:
    """The child pipeline of the node's latest earlier visit that had one; None where no visit had one."""
    visits = ((int(match[1]), entry) for entry in stage_dir.iterdir() if (match := _VISIT.match(entry.name)))
    children = (child_directory(entry) for _, entry in sorted(visits, reverse=True))
    return next((child for child in children if is_real_folder(child.path) and child.supervisor.exists()), None)


def last_commit(child: RunDirectory) -> str:
    """The commit of the child pipeline's successful end, else of its latest checkpoint, else the commit that it began at.

    Empty in a run without a repository.

    Raises:
        CorruptRecord: A record is damaged.
    """
    final = FinalOutcome.find(child)
    if final is not None and final.status is FinalStatus.SUCCESS:
        return final.final_git_commit_sha
    current = child.ending_directories()[0]
    saved = load_checkpoint(current).git_commit_sha if current.checkpoint.exists() else ""
    return saved or Manifest.read(child).base_sha


def child_facts(child: RunDirectory) -> ChildFacts:
    """Reads the child pipeline's progress from its events, over all its restarts."""
    current, completed, failed, reason = "", 0, 0, ""
    begun = False
    for event in tail_events(child.path):
        begun = True
        match event.get("event"):
            case StageAttemptStart.event:
                current = str(event.get("node_id", ""))
            case StageAttemptEnd.event if event.get("status") in (Status.FAIL, Status.RETRY):
                failed, reason = failed + 1, str(event.get("failure_reason", ""))
            case CheckpointSaved.event:
                completed += 1
            case _:
                pass
    final = FinalOutcome.find(child) if is_ended(child.progress) else None
    status = _STATUSES[final.status] if final else ChildStatus.RUNNING if begun else ChildStatus.NOT_STARTED
    return ChildFacts(status, current, completed, failed, final.failure_reason if final else reason)


def write_guidance(child: RunDirectory, text: str) -> None:
    """Writes the manager's message to the child pipeline's agents. The message replaces the one before."""
    write_text(child.guidance, text)


def read_guidance(run: RunDirectory) -> str:
    """The manager's message to the agents of this child pipeline; empty where there is none."""
    try:
        return (read_file(run.guidance, limit_bytes=TEXT_BYTES) or b"").decode("utf-8", "replace")
    except RunDirectoryError as error:
        _log.warning("no guidance: %s", error)  # the stage can work without the message
        return ""
