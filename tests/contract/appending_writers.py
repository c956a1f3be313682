"""Processes that append to one event stream at the same time."""

from __future__ import annotations

from multiprocessing.context import SpawnContext
from multiprocessing.synchronize import Barrier
from pathlib import Path

from kilroy_engine.events import WarningGiven
from kilroy_engine.rundir.files.layout import RunDirectory
from kilroy_engine.rundir.stream.progress import ProgressLog


def append_at_once(path: Path, *, processes: int, events: int, context: SpawnContext) -> None:
    """Each process appends ``events`` warnings that say who and which; returns when all are done."""
    barrier = context.Barrier(processes + 1)
    writers = [context.Process(target=writer, args=(path, number, events, barrier)) for number in range(processes)]
    for process in writers:
        process.start()
    barrier.wait(timeout=120)
    for process in writers:
        process.join(timeout=120)
        assert process.exitcode == 0


def writer(path: Path, number: int, events: int, barrier: Barrier) -> None:
    """One process."""
    log = ProgressLog(RunDirectory(path), "r1")
    barrier.wait(timeout=120)
    for event in range(events):
        log.append(WarningGiven(message=f"{number}:{event}:{'x' * (event % 50) * 100}"))
