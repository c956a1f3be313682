"""Prints the end of a run as Kilroy does: the last lines of ``kilroy run`` and ``kilroy resume``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TextIO

from kilroy_engine.cli.show.streams import say
from kilroy_engine.errors import RunDirectoryError
from kilroy_engine.processes.output import printable_lines
from kilroy_engine.rundir.files.layout import RunDirectory
from kilroy_engine.rundir.files.records import FinalOutcome, Manifest
from kilroy_engine.rundir.files.regular import read_part
from kilroy_engine.rundir.stream.reader import tail_events
from kilroy_engine.rundir.stream.visits import read_visits

_OUTPUT_LINES = 8
_TAIL_BYTES = 8192


def print_success(run: RunDirectory, final: FinalOutcome) -> None:
    """Prints exactly Kilroy's five lines, in Kilroy's order, on standard output."""
    _print_facts(run, final, sys.stdout)


def print_failure(run: RunDirectory, final: FinalOutcome) -> None:
    """Prints on standard error why the run did not succeed, the logs of the failed stage, and the five lines."""
    canceled = final.status == "canceled"
    say(f"kilroy: run {'' if canceled else 'failed: '}{final.failure_reason or final.status}")
    stage = failed_stage(run)
    if stage is not None and not canceled:
        say(f"logs of the failed stage: {stage}")
        for line in last_lines(stage):
            say(f"  | {line}")
    _print_facts(run, final, sys.stderr)


def _print_facts(run: RunDirectory, final: FinalOutcome, stream: TextIO) -> None:
    try:
        manifest = Manifest.find(run)
    except RunDirectoryError as damaged:
        say(f"kilroy: {damaged}")
        manifest = None
    worktree = manifest.worktree if manifest and Path(manifest.worktree).is_dir() else ""
    facts = {
        "run_id": final.run_id,
        "logs_root": str(run.path),
        "worktree": worktree,
        "run_branch": manifest.run_branch if manifest else "",
        "final_commit": final.final_git_commit_sha,
    }
    for name, value in facts.items():
        print(f"{name}={value}", file=stream)


def failed_stage(run: RunDirectory) -> Path | None:
    """Folder of the last stage that failed. None where no stage failed or the run directory is damaged."""
    try:
        failed = [visit for visit in read_visits(tail_events(run.path)) if visit.status in ("fail", "retry")]
    except RunDirectoryError:
        return None  # the reason of the failure is printed all the same
    folder = failed[-1].stage_dir(run) if failed else None
    return folder if folder and folder.is_dir() else None


def last_lines(stage: Path) -> list[str]:
    """The last lines of the stage process's error output, or of its standard output where there is no error output."""
    for name in ("stderr.log", "stdout.log"):
        if lines := printable_lines(read_part(stage / name, _TAIL_BYTES, end=True)):
            return lines[-_OUTPUT_LINES:]
    return []
