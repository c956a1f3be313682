"""``kilroy runs prune``: removes finished runs from the disk, worktrees included. Branches and commits stay."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from kilroy_engine.cli.errors import ExitCode
from kilroy_engine.cli.find_run import root_of_runs
from kilroy_engine.cli.show.diagnostics import plural
from kilroy_engine.cli.show.event_text import duration
from kilroy_engine.cli.show.streams import print_table, say
from kilroy_engine.errors import InvalidInput, KilroyError, RunDirectoryError
from kilroy_engine.graph.attributes import read_duration_s
from kilroy_engine.rundir.files.layout import RunDirectory

if TYPE_CHECKING:
    from kilroy_engine.rundir.stream.reader import RunSummary


def prune(
    *,
    older_than: Annotated[
        str, Parameter(metavar="TIME", help="Runs that ended longer ago than this, for example 7d or 24h.")
    ] = "",
    keep: Annotated[int | None, Parameter(help="All but the newest so many finished runs.")] = None,
    yes: Annotated[bool, Parameter(help="Remove them. Without it the command only says what it would remove.")] = False,
    runs_root: Annotated[Path | None, Parameter(help="Folder of run directories.")] = None,
) -> int:
    """Remove the directories of finished runs, with their worktrees.

    Say which ones with `--older-than`, `--keep` or both. A run that has not ended is never removed. Run branches and their
    commits stay in the repository; what a worktree holds beyond them is removed with it.
    """
    from kilroy_engine.cli.listing import read_runs

    if not older_than and keep is None:
        raise InvalidInput("say which runs to remove: --older-than 7d, --keep 10, or both", name="older_than")
    if keep is not None and keep < 0:
        raise InvalidInput("--keep must be 0 or more", name="keep")
    root = root_of_runs(runs_root)
    everything, damaged = read_runs(root)
    doomed = _choose([run for run in everything if run.complete and not run.owner_alive], older_than, keep)
    _tell_kept(everything, damaged=len(damaged))
    if not doomed:
        say(f"nothing to remove in {root}")
        return ExitCode.SUCCESS
    if not yes:
        print_table(("RUN", "STATE", "PIPELINE", "ENDED", "WORKTREE"), [_cells(run) for run in doomed])
        say(f"{plural(len(doomed), 'run')} would be removed; add --yes to remove")
        return ExitCode.SUCCESS
    return _remove_all(doomed)


def _choose(finished: Sequence[RunSummary], older_than: str, keep: int | None) -> list[RunSummary]:
    """The runs to remove. ``finished`` is sorted, the newest first."""
    limit_s = read_duration_s(older_than, default=None) if older_than else 0.0
    if limit_s is None:
        raise InvalidInput(f"--older-than {older_than}: a time such as 24h or 7d is expected", name="older_than")
    return [run for run in finished[keep or 0 :] if _age_s(run) >= limit_s]


def _age_s(run: RunSummary) -> float:
    return (datetime.now(UTC) - run.final.timestamp).total_seconds() if run.final else 0.0


def _cells(run: RunSummary) -> tuple[str, ...]:
    worktree = run.manifest.worktree if run.manifest and Path(run.manifest.worktree).is_dir() else ""
    name = run.manifest.graph_name if run.manifest else ""
    return run.run_id, run.status, name, f"{duration(_age_s(run))} ago", worktree


def _tell_kept(everything: Sequence[RunSummary], *, damaged: int) -> None:
    running = sum(run.owner_alive for run in everything)
    unended = sum(not run.owner_alive and not run.complete for run in everything)
    counts = ((running, "running"), (unended, "without an end"), (damaged, "damaged"))
    kept = [f"{number} {what}" for number, what in counts if number]
    if kept:
        say(f"never removed: {', '.join(kept)}")


def _remove_all(doomed: Sequence[RunSummary]) -> int:
    failed = 0
    for run in doomed:
        try:
            remove(run)
        except (KilroyError, OSError) as error:
            failed += 1
            say(f"kilroy: {run.run_id} is not removed: {error}")
        else:
            print(f"removed {run.path}")
    return ExitCode.FAIL if failed else ExitCode.SUCCESS


def remove(run: RunSummary) -> None:
    """Removes one finished run. Holds the run's lock, so that nobody resumes the run meanwhile.

    Raises:
        RunDirectoryError: Another process holds the lock, or the user has locked the worktree.
    """
    from kilroy_engine.rundir.ownership.ownership import RunLock
    from kilroy_engine.workspace.stale import discard_worktree

    directory = RunDirectory(run.path)
    lock = RunLock.acquire(directory)
    try:
        if run.manifest is not None and not discard_worktree(directory):
            raise RunDirectoryError("git keeps its worktree, which somebody has locked (`git worktree lock`)", path=run.path)
        going = run.path.with_name(f".removing-{run.path.name}")
        run.path.rename(going)  # one step: a reader finds the complete run or none
    finally:
        lock.release()
    _remove_tree(going)


def _remove_tree(folder: Path) -> None:
    for place, _, _ in os.walk(folder):
        os.chmod(place, stat.S_IRWXU)  # noqa: PTH101  # os.walk gives text; package caches hold folders without write permission
    shutil.rmtree(folder)
