"""Processes that end the same runs at the same moment, each with an end of its own in mind."""

from __future__ import annotations

from multiprocessing.context import SpawnContext
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Barrier
from pathlib import Path

from rundir_runs import QUICK

from kilroy_engine.rundir.ending.finalize import end_of, finalize_run
from kilroy_engine.rundir.ending.which_end_wins import Observed
from kilroy_engine.rundir.files.layout import RunDirectory
from kilroy_engine.rundir.ownership.ownership import current_owner
from kilroy_engine.traversal.outcome import FinalStatus

IDEAS = (FinalStatus.CANCELED, FinalStatus.FAIL)


def race(runs: list[Path], *, processes: int, context: SpawnContext) -> dict[str, list[tuple[int, str]]]:
    """Lets every process end every run; returns per run who got which end."""
    barrier, results = context.Barrier(processes), context.Queue()
    racers = [context.Process(target=racer, args=(n, runs, barrier, results)) for n in range(processes)]
    for process in racers:
        process.start()
    found: dict[str, list[tuple[int, str]]] = {path.name: [] for path in runs}
    for _ in range(len(runs) * processes):
        number, name, status = results.get(timeout=120)
        found[name].append((number, status))
    for process in racers:
        process.join(timeout=30)
        assert process.exitcode == 0
    return found


def racer(number: int, runs: list[Path], barrier: Barrier, results: Queue[tuple[int, str, str]]) -> None:
    """One process: ends each run as soon as all the others are ready to."""
    for path in runs:
        run = RunDirectory(path)
        owner = current_owner(run)
        assert owner is not None
        idea = end_of(run, owner, Observed(IDEAS[number % 2], f"idea of {number}"))
        barrier.wait(timeout=120)
        final = finalize_run(run, idea, owner=owner, limits=QUICK)
        results.put((number, path.name, str(final.status)))
