"""The status contract: where a stage may leave its own verdict, and how that verdict becomes the outcome.

An agent writes ``status.json`` into its work folder; :func:`ingest_status` moves it into the stage directory. Whatever lies
there decides (:func:`with_stage_status`), for tools too: the engine reads it once per attempt.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

from kilroy_engine.errors import CorruptRecord, RunDirectoryError
from kilroy_engine.limits import STATUS_BYTES
from kilroy_engine.rundir.files.atomic import write_bytes
from kilroy_engine.rundir.files.inside import goes_through_folders, make_way_to
from kilroy_engine.rundir.files.regular import is_real_folder, read_file
from kilroy_engine.rundir.stages.stage_files import STATUS_FILE, decode_status
from kilroy_engine.traversal.failure import FailureClass
from kilroy_engine.traversal.outcome import Outcome

_PAUSES_S = (0.025, 0.05)


@dataclass(frozen=True, slots=True)
class StatusPlaces:
    """Where an agent leaves its verdict: ``primary``, or ``fallback`` where it cannot write that. Both absolute, below the work
    folder ``root``."""

    root: Path
    primary: Path
    fallback: Path

    @property
    def environment(self) -> dict[str, str]:
        """The variables that tell the agent."""
        return {
            "KILROY_STAGE_STATUS_PATH": str(self.primary),
            "KILROY_STAGE_STATUS_FALLBACK_PATH": str(self.fallback),
        }

    def clear(self) -> None:
        """Removes what an earlier stage left: an old verdict must not pass for a new one."""
        for path in (self.primary, self.fallback):
            if goes_through_folders(self.root, path.relative_to(self.root)) and not is_real_folder(path):
                path.unlink(missing_ok=True)
        make_way_to(self.root, self.primary.parent)


@dataclass(frozen=True, slots=True)
class Ingestion:
    """Where a verdict was found: the fields of ``status_ingestion_decision``.

    ``source`` is ``canonical`` (in the stage directory already), ``worktree``, ``dot_ai`` or empty for nowhere. ``copied``
    tells whether the file was moved. ``diagnostic`` says why places were passed over. ``unreadable`` is set where the agent
    has left a verdict and nobody can read it: which file, and the place in it.
    """

    source: str = ""
    copied: bool = False
    diagnostic: str = ""
    unreadable: str = ""

    @property
    def found(self) -> bool:
        return bool(self.source)


def status_contract(run_id: str, work_dir: Path, beside: str = "") -> StatusPlaces:
    """The places for a stage that works in ``work_dir`` (Kilroy: status contract paths).

    ``beside`` is not empty for a stage that shares the folder with others at the same time: its places are in a folder of its
    own then, so that it takes no other stage's verdict.
    """
    root = work_dir.absolute()
    if beside:
        own = root.joinpath(".ai", "runs", run_id, *beside.split("/"))
        return StatusPlaces(root, own / STATUS_FILE, own / f"fallback-{STATUS_FILE}")
    return StatusPlaces(root, root / STATUS_FILE, root / ".ai" / "runs" / run_id / STATUS_FILE)


def ingest_status(contract: StatusPlaces, stage_dir: Path) -> Ingestion:
    """Moves the agent's verdict into the stage directory, byte for byte. The first valid one counts."""
    target = stage_dir / STATUS_FILE
    if os.path.lexists(target):
        return Ingestion("canonical")
    rejected: list[str] = []
    unreadable: list[str] = []
    for source, path in (("worktree", contract.primary), ("dot_ai", contract.fallback)):
        content, problem, place = _valid_content(contract.root, path)
        if place:
            unreadable.append(place)
        if not problem:
            write_bytes(target, content)
            path.unlink(missing_ok=True)
            return Ingestion(source, copied=True, diagnostic="; ".join(rejected))
        rejected.append(f"fallback[{source}] {problem}: {path}")
    return Ingestion(diagnostic="; ".join(rejected), unreadable="; ".join(unreadable))


def with_stage_status(outcome: Outcome, verdict: Outcome | None) -> Outcome:
    """The outcome that counts: the ``verdict`` of the stage's own ``status.json`` if it left a valid one, else ``outcome``.

    ``meta`` and ``context_updates`` of ``outcome`` stay beneath those of the file, and so does a failure's signature. What the
    engine itself knows of the stage stays as it is. The result counts as a verdict. A stage that was stopped did not finish,
    whatever it wrote before: an outcome that is canceled, timed out or out of budget stands.
    """
    stopped = outcome.timed_out or outcome.failure_class in {FailureClass.CANCELED, FailureClass.BUDGET_EXHAUSTED}
    if verdict is None or stopped:
        return outcome
    return outcome.with_updates(
        status=verdict.status,
        preferred_label=verdict.preferred_label,
        suggested_next_ids=verdict.suggested_next_ids,
        context_updates={**outcome.context_updates, **verdict.context_updates},
        notes=verdict.notes,
        failure_reason=verdict.failure_reason,
        failure_class=verdict.failure_class,
        failure_signature=verdict.failure_signature or outcome.failure_signature,
        timed_out=verdict.timed_out,
        verification=verdict.verification,
        details=verdict.details,
        meta={**outcome.meta, **verdict.meta},
        verdict=True,
    )


def _valid_content(root: Path, path: Path) -> tuple[bytes, str, str]:
    """Content of a verdict, or what is wrong with it in Kilroy's words, and where where somebody has tried to write one.

    A file that is cut short is looked at twice more: it may still grow. A verdict is a file of the work folder: neither it nor
    a folder on the way to it may be a link.
    """
    if not goes_through_folders(root, path.relative_to(root)):
        return b"", "missing status artifact", ""
    place = ""
    for pause_s in (*_PAUSES_S, None):
        try:
            content = read_file(path, limit_bytes=STATUS_BYTES)
        except RunDirectoryError as error:
            return b"", "unreadable status artifact", str(error)
        if content is None:
            return b"", "missing status artifact", ""
        try:
            decode_status(content, path)
        except CorruptRecord as error:
            place = str(error)
            if not isinstance(error.__cause__, ValueError):
                return b"", "invalid status payload", place  # whole JSON, but no verdict
        else:
            return content, "", ""
        if pause_s is not None:
            time.sleep(pause_s)
    return b"", "corrupt status artifact", place
