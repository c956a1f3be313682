"""The end of a run. :func:`finalize_run` is the only writer of ``final.json`` and of the terminal line.

Order: stop the process groups → the end of child pipelines → ``final.json`` → ``outputs/`` and ``outputs.json`` → ``run.tgz``
→ push → tidy → terminal line.
Whoever sees the terminal line finds everything before it done. The decisive writes happen under ``commit.lock``, the long
steps under ``end.lock`` only, so that a second finalizer waits instead of doing them again.
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
    """Ends the start ``who`` of the run, from disk and from what was ``observed``; returns the end that stands.

    For everybody who ends a run: state hooks, the exit of a process, the reconciler, the next start, the run around a child.

    Raises:
        RunSuperseded: The directory belongs to another start; nothing was changed.
        RunDirectoryError: the disk refused. Call it again when the cause is gone.
    """
    return finalize_run(run, end_of(run, who, observed), owner=who, closing=closing, limits=limits)


def owner_for(run: RunDirectory, flow_run_id: UUID | str) -> Owner:
    """The directory's current start, as that of ``flow_run_id``: whoever ends it then is refused if it is another's."""
    owner = current_owner(run)
    return Owner(str(flow_run_id), owner.start if owner else 1)


def end_of(run: RunDirectory, who: Owner, observed: Observed = UNSEEN) -> FinalOutcome:
    """The end of the start ``who``, from disk and from what was ``observed``. Nothing is written."""
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
    """Ends the run as ``final`` says, unless it has ended already; returns the end that stands.

    Idempotent and safe from any process, any number at once: the first ``final.json`` of the start stands, exactly one
    terminal line follows, a call after a crash between the steps adds what is missing.

    Raises:
        RunSuperseded: ``owner`` is not the directory's; nothing was changed.
        RunDirectoryError: the disk refused. Call it again when the cause is gone.
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
    """Ends the child pipelines that have no end yet: they die with the run around them, and in its way.

    Call it only when no process of the run's is at work any more.
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
    """The steps of one start's end, each repeatable. For :func:`finalize_run` and for the next start."""

    def __init__(self, run: RunDirectory, owner: Owner) -> None:
        self._owner = owner
        self._run = run
        run_id = run_id_in(run)
        # The latest restart directory comes first, so that the run directory's own line says that all is done.
        self._logs = {directory: ProgressLog(directory, run_id) for directory in run.ending_directories()}
        self._base = self._logs[run]

    def ended(self) -> FinalOutcome | None:
        """The end that stands, None while anything of it is missing.

        Raises:
            RunSuperseded: the directory belongs to another start.
        """
        with self._base.exclusive():
            self._require_ownership()
            return _if_whole(FinalOutcome, self._run) if self._terminal_line(self._run) else None

    def commit_final(self, final: FinalOutcome) -> FinalOutcome:
        """Writes ``final.json`` where this start has none; the first one written stands. Returns that one."""
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
        """Outputs, archive, push, tidying. None of them can change the run's status or keep the terminal line away."""
        self._guarded("outputs", self._collect_outputs)
        self._guarded("run.tgz", lambda: self._archive(limits.archive_s))
        self._guarded("push", lambda: self._tell(closing.push(final, limit_s=limits.push_s)))
        failpoint("push", "after")
        self._guarded("tidy", lambda: self._tell(closing.tidy(final)))
        failpoint("tidy", "after")
        self._guarded("run.log", lambda: self._log_end(final))

    def commit_line(self, final: FinalOutcome) -> None:
        """Appends the terminal line where it is missing, in the run directory last."""
        with self._base.exclusive():
            self._require_ownership()
            for directory, log in self._logs.items():
                if not self._terminal_line(directory):
                    log.append(_terminal_event(final), durable=True)

    def close(self) -> None:
        """Gives the descriptors back."""
        for log in self._logs.values():
            log.close()

    def _require_ownership(self) -> None:
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
        """The end of this start that is on disk in any directory, or was told by a line; else ``final``."""
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
        try:
            action()
        except Exception as error:  # noqa: BLE001 - whatever a step does, the run must reach its terminal line
            _log.warning("%s: %s failed at the end of the run", self._run.path, step, exc_info=error)
            self._warn(f"{step}: {error}")

    def _warn(self, message: str) -> None:
        self._tell((WarningGiven(message=message),))

    def _tell(self, events: Iterable[Event]) -> None:
        # The attempt that is ending is told, as Kilroy does; the run directory itself without restarts.
        log = next(iter(self._logs.values()))
        for event in events:
            try:
                log.append(event)
            except RunEnded:
                pass  # another finalizer was faster; the log has said so


def make_room(directory: RunDirectory, log: ProgressLog, *, start: int, from_node: str = "") -> None:
    """Makes room for the end of start ``start``, where an earlier one has ended: first the line ``run_resumed``, then the old
    ``final.json`` gets another name.

    The archive and the outputs of the earlier end go too: those that exist are always the current start's. Call it under the
    log's lock.
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
    """The terminal line, if it is the last one."""
    # The log closes a torn last line first: the line may be whole but for its newline.
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
    try:
        return kind.find(run)
    except CorruptRecord as error:
        # The end must be written all the same, from what else is known.
        _log.warning("%s", error)
        return None


def _set_damaged_aside(directory: RunDirectory) -> None:
    """A ``final.json`` that says nothing, whoever left it, must not keep the run from its end."""
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
