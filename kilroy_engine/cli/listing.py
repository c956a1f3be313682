"""Runs below a runs root, selected and sorted; what ``runs list`` and ``runs prune`` share."""

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
    """Which runs are wanted; what is empty asks for nothing. Nobody knows labels and pipeline of a damaged run."""

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
        """Whether damaged runs are wanted."""
        return self.status == DAMAGED or not (self.status or self.graph or self.labels)


@dataclass(frozen=True)
class DamagedRun:
    """A run whose directory cannot be read; ``problem`` says what is wrong with it."""

    path: Path
    problem: str

    @property
    def run_id(self) -> str:
        """The name of its directory."""
        return self.path.name


def read_runs(root: Path) -> tuple[list[RunSummary], list[DamagedRun]]:
    """Every run below ``root``, the newest first, and those that are damaged. A run that is being removed is passed over."""
    found: list[RunSummary] = []
    damaged: list[DamagedRun] = []
    for run in all_runs(root):
        try:
            found.append(read_run(run.path))
        except (RunDirectoryError, OSError) as error:
            if os.path.lexists(run.path):  # else gone since the folder was read
                damaged.append(DamagedRun(run.path, str(error)))
        except Exception as error:  # noqa: BLE001 - whatever is in one run directory, the others are listed
            damaged.append(DamagedRun(run.path, f"{type(error).__name__}: {error}"))
    return sorted(found, key=lambda run: run.started_at or _LONG_AGO, reverse=True), damaged


def took_s(run: RunSummary) -> float | None:
    """Seconds from the run's start to its end, or until now while it runs; None where that is not known."""
    if run.started_at is None:
        return None
    if run.final:
        return (run.final.timestamp - run.started_at).total_seconds()
    return (datetime.now(UTC) - run.started_at).total_seconds() if run.owner_alive else None


def record_of(run: RunSummary) -> dict[str, object]:
    """Kilroy's JSON record of a run in a list; optional keys are left out when empty."""
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
    """The record of a run that cannot be read: Kilroy's keys as far as they are known, and ``problem``."""
    known = {"run_id": run.run_id, "graph_name": "", "started_at": "", "logs_root": str(run.path)}
    return {**known, "status": DAMAGED, "problem": run.problem}
