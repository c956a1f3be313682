"""Writes the end of a run. ``finalize_run`` is the only writer of ``final.json`` and of the terminal line.

Order: stop the process groups → end child pipelines → ``final.json`` → ``outputs/`` and ``outputs.json`` → ``run.tgz`` → push →
tidy → terminal line. A reader that sees the terminal line finds every step before it done. ``final.json`` and the terminal line
are written under ``commit.lock``. The long steps hold ``end.lock`` only, so that a second process waits instead of doing them
again.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeVar
from uuid import UUID

from kilroy_engine.errors import CorruptRecord, RunDirectoryError, RunEnded, RunSuperseded
from kilroy_engine.events import Event, RunCompleted, RunFailed, RunResumed, WarningGiven
from kilroy_engine.events.times import now
from kilroy_engine.rundir.ending.archive import write_archive
from kilroy_engine.rundir.ending.closing import NOTHING, UNHURRIED, Closing, ClosingLimits
from kilroy_engine.rundir.ending.outputs import collect_outputs
from kilroy_engine.rundir.ending.which_end_wins import UNSEEN, Evidence, Observed, which_end_wins
from kilroy_engine.rundir.files.checkpoint import load_checkpoint
from kilroy_engine.rundir.files.failpoints import failpoint
from kilroy_engine.rundir.files.layout import RunDirectory
from kilroy_engine.rundir.files.locks import turn
from kilroy_engine.rundir.files.records import CancelRequest, Conclusion, FinalOutcome, Manifest, Record
from kilroy_engine.rundir.files.regular import remove, set_aside
from kilroy_engine.rundir.files.runlog import RunLog
from kilroy_engine.rundir.ownership.ownership import Owner, current_owner, run_id_in
from kilroy_engine.rundir.stages.children import child_directories
from kilroy_engine.rundir.stages.process_groups import end_process_groups
from kilroy_engine.rundir.stream.progress import ProgressLog, last_event
from kilroy_engine.traversal.outcome import FinalStatus

_log = logging.getLogger(__name__)
_R = TypeVar("_R", bound=Record)


def end_run(
    run: RunDirectory, who: Owner, observed: Observed = UNSEEN, *, closing: Closing = NOTHING, limits: ClosingLimits = UNHURRIED
) -> FinalOutcome:
    """Ends one start of the run. A start is one process life of a run; ``who`` names it by flow run and start number.

    How it ended follows from the files and from what the caller has ``observed``. Returns the end that is on disk.

    Called by a state hook, at the exit of a process, by the reconciler, and by the run around a child pipeline.

    Raises:
        RunSuperseded: The directory belongs to another start; nothing was changed.
        RunDirectoryError: The disk refused. Call again when the cause is gone.
    """
    return finalize_run(run, end_of(run, who, observed), owner=who, closing=closing, limits=limits)


def owner_for(run: RunDirectory, flow_run_id: UUID | str) -> Owner:
    """The owner that a state hook claims to be: its own flow run, at the directory's current start number.

    Where another flow run owns that start, :func:`finalize_run` refuses the claim.
    """
    owner = current_owner(run)
    return Owner(str(flow_run_id), owner.start if owner else 1)


def end_of(run: RunDirectory, who: Owner, observed: Observed = UNSEEN) -> FinalOutcome:
    """How the start ``who`` ended, from the files and from what was ``observed``. Nothing is written."""
    evidence = Evidence(
        final=_if_whole(FinalOutcome, run),
        cancel=_if_whole(CancelRequest, run),
        conclusion=_if_whole(Conclusion, run),
        observed=observed,
        last_sha=_last_sha(run),
    )
    return which_end_wins(evidence, run_id=run_id_in(run), owner=who, at=now())


def finalize_run(
    run: RunDirectory, final: FinalOutcome, *, owner: Owner, closing: Closing = NOTHING, limits: ClosingLimits = UNHURRIED
) -> FinalOutcome:
    """Ends the run as ``final`` says, unless the run has ended already. Returns the end that is on disk.

    Safe to call again, and from several processes at once: the first ``final.json`` of the start stays, exactly one terminal
    line follows, and a call after a crash adds the missing steps.

    Raises:
        RunSuperseded: ``owner`` does not own the directory; nothing was changed.
        RunDirectoryError: The disk refused. Call again when the cause is gone.
    """
    finalizer = Finalizer(run, owner)
    try:
        ended = finalizer.ended()
        if ended is not None:
            return ended
        with turn(run.end_lock, wait_s=limits.total_s) as mine:
            if not mine:
                _log.warning("%s: another process has not ended the run in time; this one goes on", run.path)
            ended = finalizer.ended()
            if ended is not None:
                return ended
            end_process_groups(run, grace_s=limits.grace_s)
            end_children(run, final, limits)
            final = finalizer.commit_final(final)
            finalizer.complete(final, closing, limits)
            finalizer.commit_line(final)
            return final
    finally:
        finalizer.close()


def end_children(run: RunDirectory, final: FinalOutcome, limits: ClosingLimits) -> None:
    """Ends the child pipelines of the run that have no end yet.

    If the run was canceled, its children are canceled. Otherwise each child's own files say how it ended; where they say
    nothing, it failed for the run's reason.

    Called only when no process of the run is at work any more.
    """
    for child in child_directories(run):
        owner = current_owner(child)
        if owner is None:
            continue  # it never began
        canceled = FinalStatus.CANCELED if final.status is FinalStatus.CANCELED else None
        reason = final.failure_reason or "the run around it has ended"
        try:
            end_run(child, owner, Observed(canceled, reason, crashed=final.crashed), limits=limits)
        except RunDirectoryError as error:
            _log.warning("%s: the child pipeline could not be ended: %s", child.path, error)


class Finalizer:
    """The steps that end one start. Each step can be repeated. Used by :func:`finalize_run` and by the next start."""

    def __init__(self, run: RunDirectory, owner: Owner) -> None:
        self._owner = owner
        self._run = run
        run_id = run_id_in(run)
        # The latest restart directory comes first, so that the run directory's terminal line is the last write.
        self._logs = {directory: ProgressLog(directory, run_id) for directory in run.ending_directories()}
        self._base = self._logs[run]

    def ended(self) -> FinalOutcome | None:
        """The end on disk; None while ``final.json`` or the terminal line is missing.

        Raises:
            RunSuperseded: The directory belongs to another start.
        """
        with self._base.exclusive():
            self._require_ownership()
            return _if_whole(FinalOutcome, self._run) if self._terminal_line(self._run) else None

    def commit_final(self, final: FinalOutcome) -> FinalOutcome:
        """Writes ``final.json`` where this start has none. Returns the end that is on disk: the first one written stays."""
        with self._base.exclusive():
            self._require_ownership()
            for directory in self._logs:
                _set_damaged_aside(directory)
            final = self._standing(final)
            for directory, log in self._logs.items():
                make_room(directory, log, start=self._owner.start)
                if FinalOutcome.find(directory) is None:
                    final.write(directory)
        return final

    def complete(self, final: FinalOutcome, closing: Closing, limits: ClosingLimits) -> None:
        """Runs the steps between ``final.json`` and the terminal line. A failed step neither changes the run's status nor stops
        the end.
        """
        self._guarded("outputs", self._collect_outputs)
        self._guarded("run.tgz", lambda: self._archive(limits.archive_s))
        self._guarded("push", lambda: self._tell(closing.push(final, limit_s=limits.push_s)))
        failpoint("push", "after")
        self._guarded("tidy", lambda: self._tell(closing.tidy(final)))
        failpoint("tidy", "after")
        self._guarded("run.log", lambda: self._log_end(final))

    def commit_line(self, final: FinalOutcome) -> None:
        """Appends the terminal line where it is missing, to the run directory's stream last."""
        with self._base.exclusive():
            self._require_ownership()
            for directory, log in self._logs.items():
                if not self._terminal_line(directory):
                    log.append(_terminal_event(final), durable=True)

    def close(self) -> None:
        """Closes the files."""
        for log in self._logs.values():
            log.close()

    def _require_ownership(self) -> None:
        """Raises :class:`RunSuperseded` where the directory belongs to another start."""
        actual = current_owner(self._run)
        if actual is None or actual == self._owner:
            return
        raise RunSuperseded(
            f"{self._run.path} belongs to start {actual.start} of flow run {actual.flow_run_id}; "
            f"start {self._owner.start} of flow run {self._owner.flow_run_id} does not end it",
            path=self._run.path,
            owner=actual.flow_run_id,
        )

    def _standing(self, final: FinalOutcome) -> FinalOutcome:
        """The end of this start that any directory holds or a terminal line told; else ``final``."""
        for directory in self._logs:
            found = FinalOutcome.find(directory)
            if found is not None and found.start == self._owner.start:
                return found
        line = self._terminal_line(self._run)
        if line is None:
            return final
        told = {"status": FinalStatus(str(line["status"])), "failure_reason": str(line.get("reason", ""))}
        return final.model_copy(update=told)

    def _terminal_line(self, directory: RunDirectory) -> dict[str, object] | None:
        line = _last_end(directory, self._logs[directory])
        return line if line is not None and _start_of(line) == self._owner.start else None

    def _collect_outputs(self) -> None:
        manifest = _if_whole(Manifest, self._run)
        if manifest is None or self._run.outputs_index.exists():
            return
        work_dir = Path(manifest.worktree) if manifest.worktree else self._run.worktree
        for output in collect_outputs(self._run, manifest.outputs, work_dir):
            if not output.found:
                self._warn(f'output: declared output "{output.name}" not found in workspace')

    def _log_end(self, final: FinalOutcome) -> None:
        reason, sha = final.failure_reason, final.final_git_commit_sha
        RunLog(self._run).run_completed(status=final.status, failure_reason=reason, sha=sha)

    def _archive(self, limit_s: float) -> None:
        if self._run.archive.exists():
            return
        if not write_archive(self._run, limit_s=limit_s):
            self._warn(f"run.tgz: not complete after {limit_s:g} s, left out")

    def _guarded(self, step: str, action: Callable[[], None]) -> None:
        """Runs one step. If the step raises, a ``warning`` tells so and the end goes on."""
        try:
            action()
        except Exception as error:  # noqa: BLE001 - whatever a step does, the run must reach its terminal line
            _log.warning("%s: %s failed at the end of the run", self._run.path, step, exc_info=error)
            self._warn(f"{step}: {error}")

    def _warn(self, message: str) -> None:
        self._tell((WarningGiven(message=message),))

    def _tell(self, events: Iterable[Event]) -> None:
        """Appends events of a step. Events after the terminal line are dropped."""
        # As in Kilroy the event goes to the latest restart directory, or to the run directory where there is none.
        log = next(iter(self._logs.values()))
        for event in events:
            try:
                log.append(event)
            except RunEnded:
                pass  # another process has ended the run; ``append`` logged that


def make_room(directory: RunDirectory, log: ProgressLog, *, start: int, from_node: str = "") -> None:
    """Moves the end of an earlier start out of the way of start ``start``, where there is one.

    Appends the line ``run_resumed`` if the stream ends with the earlier terminal line, then renames the old ``final.json``.
    Called when a start begins, and again before its end is written: a start that was killed in between may not have come to it.

    The archive and the outputs index of the earlier end are removed: those that exist always belong to the current start.
    Called under the lock of ``log``.
    """
    line = _last_end(directory, log)
    _set_damaged_aside(directory)
    if line is not None and _start_of(line) < start:
        log.append(RunResumed(start=start, from_node=from_node, previous_status=str(line.get("status", ""))))
    old = FinalOutcome.find(directory)
    if old is not None and old.start < start:
        remove(directory.archive)
        remove(directory.outputs_index)
        failpoint("final.json", "aside")
        directory.final.replace(directory.final_of_start(old.start))


def _last_end(directory: RunDirectory, log: ProgressLog) -> dict[str, object] | None:
    """The terminal line, if it is the last event. Asking ``log.ended`` also closes a torn last line with a newline."""
    return last_event(directory.progress) if log.ended else None


def _start_of(line: dict[str, object]) -> int:
    start = line.get("start", 1)  # Kilroy's own lines do not have it
    return start if isinstance(start, int) else 1


def _terminal_event(final: FinalOutcome) -> RunCompleted | RunFailed:
    if final.status is FinalStatus.SUCCESS:
        return RunCompleted(start=final.start)
    status = "canceled" if final.status is FinalStatus.CANCELED else "fail"
    return RunFailed(status=status, reason=final.failure_reason or None, start=final.start)


def _if_whole(kind: type[_R], run: RunDirectory) -> _R | None:
    """The record; None where the file is missing or damaged."""
    try:
        return kind.find(run)
    except CorruptRecord as error:
        # The end must be written all the same, from what else is known.
        _log.warning("%s", error)
        return None


def _set_damaged_aside(directory: RunDirectory) -> None:
    """Renames a damaged ``final.json``, so that the run can get its end."""
    try:
        FinalOutcome.find(directory)
    except CorruptRecord as error:
        kept = set_aside(directory.final)
        _log.warning("%s It is kept as %s", error, kept.name)


def _last_sha(run: RunDirectory) -> str:
    try:
        return load_checkpoint(run.ending_directories()[0]).git_commit_sha
    except RunDirectoryError:
        return ""  # none yet, or damaged: the end is written without it
