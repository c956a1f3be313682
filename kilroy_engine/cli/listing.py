"""Reads, selects and sorts the runs below a runs root, for ``runs list`` and ``runs prune``."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from kilroy_engine.cli.find_run import all_runs
from kilroy_engine.errors import RunDirectoryError
from kilroy_engine.events.times import rfc3339
from kilroy_engine.rundir.stream.reader import RunSummary, read_run

DAMAGED = "damaged"
_LONG_AGO = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True)
class Selection:
    """The conditions of ``runs list``. An empty field is no condition."""

    labels: Mapping[str, str]
    status: str = ""
    graph: str = ""

    def fits(self, run: RunSummary) -> bool:
        """Whether the run meets every condition."""
        labels = run.manifest.labels if run.manifest else {}
        return (
            self.status in ("", run.status)
            and self.graph.lower() in run.graph_name.lower()
            and all(labels.get(name) == value for name, value in self.labels.items())
        )

    @property
    def takes_damaged(self) -> bool:
        """Whether damaged runs are listed. Their labels and pipeline are unknown, so a condition on these leaves them out."""
        return self.status == DAMAGED or not (self.status or self.graph or self.labels)


@dataclass(frozen=True)
class DamagedRun:
    """A run whose directory cannot be read. ``problem`` says why."""

    path: Path
    problem: str

    @property
    def run_id(self) -> str:
        """The name of the run directory."""
        return self.path.name


def read_runs(root: Path) -> tuple[list[RunSummary], list[DamagedRun]]:
    """The readable runs below ``root``, the newest first, and the damaged runs. Skips a run that was removed meanwhile."""
    found: list[RunSummary] = []
    damaged: list[DamagedRun] = []
    for run in all_runs(root):
        try:
            found.append(read_run(run.path))
        except (RunDirectoryError, OSError) as error:
            if os.path.lexists(run.path):  # otherwise the run was removed meanwhile
                damaged.append(DamagedRun(run.path, str(error)))
        except Exception as error:  # noqa: BLE001 - an error in one run directory must not hide the other runs
            damaged.append(DamagedRun(run.path, f"{type(error).__name__}: {error}"))
    return sorted(found, key=lambda run: run.started_at or _LONG_AGO, reverse=True), damaged


def took_s(run: RunSummary) -> float | None:
    """Seconds from the run's start to its end, or to now while the run's process lives. None where unknown."""
    if run.started_at is None:
        return None
    if run.final:
        return (run.final.timestamp - run.started_at).total_seconds()
    return (datetime.now(UTC) - run.started_at).total_seconds() if run.owner_alive else None


def record_of(run: RunSummary) -> dict[str, object]:
    """The JSON record of a run in a list, with Kilroy's keys. Empty optional keys are left out."""
    manifest, seconds = run.manifest, took_s(run)
    record: dict[str, object] = {
        "run_id": run.run_id,
        "graph_name": run.graph_name,
        "goal": manifest.goal if manifest else "",
        "started_at": rfc3339(run.started_at) if run.started_at else "",
        "logs_root": str(run.path),
        "worktree_dir": manifest.worktree if manifest else "",
        "run_branch": manifest.run_branch if manifest else "",
        "repo_path": manifest.repo_path if manifest else "",
        "labels": manifest.labels if manifest else {},
        "status": run.status,
        "duration": "" if seconds is None else f"{round(seconds * 1000)}ms",
    }
    return {key: value for key, value in record.items() if value or key in ("run_id", "graph_name", "started_at", "status")}


def record_of_damaged(run: DamagedRun) -> dict[str, object]:
    """The JSON record of a damaged run: Kilroy's keys as far as they are known, and ``problem``."""
    known = {"run_id": run.run_id, "graph_name": "", "started_at": "", "logs_root": str(run.path)}
    return {**known, "status": DAMAGED, "problem": run.problem}
