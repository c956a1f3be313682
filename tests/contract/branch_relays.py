"""Branches that tell the run's stream what happens in them, each in a thread, some in processes of their own."""

from __future__ import annotations

import threading
from multiprocessing.context import SpawnContext
from multiprocessing.process import BaseProcess
from multiprocessing.synchronize import Barrier
from pathlib import Path

from kilroy_engine.errors import RunEnded
from kilroy_engine.events import BranchProgress, Event, StageAttemptStart
from kilroy_engine.rundir.files.layout import RunDirectory
from kilroy_engine.rundir.stream.progress import ProgressLog


class Branch:
    """A branch with a directory of its own. Each event of its stream is relayed to the run's.

    ``relayed`` counts what the run's stream took; ``refused`` what came after the end.
    """

    def __init__(self, run: Path, key: str, run_log: ProgressLog) -> None:
        self.key = key
        self.relayed = self.refused = 0
        self._path = run / "parallel" / "fan" / "pass1" / key
        self._path.mkdir(parents=True, exist_ok=True)
        self._run_log = run_log
        self.log = ProgressLog(RunDirectory(self._path), "r1")
        self.log.listen(self._relay)

    def tell(self, number: int) -> None:
        """Appends the branch's event ``number`` to its stream, and with it to the run's."""
        self.log.append(StageAttemptStart(node_id=f"{self.key}-{number}", attempt=1, max=1))

    def _relay(self, event: Event) -> None:
        assert isinstance(event, StageAttemptStart)
        try:
            self._run_log.append(
                BranchProgress(
                    branch_key=self.key,
                    branch_logs_root=str(self._path),
                    branch_event=event.event,
                    branch_node_id=event.node_id,
                )
            )
        except RunEnded:
            self.refused += 1
        else:
            self.relayed += 1


def start_processes(run: Path, *, processes: int, branches: int, context: SpawnContext) -> tuple[list[BaseProcess], Barrier]:
    """Processes with ``branches`` threads each. All wait at the barrier, then tell until the run has ended."""
    barrier = context.Barrier(processes + 1)
    started = [context.Process(target=_tell_until_the_end, args=(run, at, branches, barrier)) for at in range(processes)]
    for process in started:
        process.start()
    return list(started), barrier


def _tell_until_the_end(run: Path, process: int, branches: int, barrier: Barrier) -> None:
    log = ProgressLog(RunDirectory(run), "r1")
    told = [Branch(run, f"p{process}b{number}", log) for number in range(branches)]
    barrier.wait(timeout=120)
    threads = [threading.Thread(target=_until_refused, args=(branch,)) for branch in told]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for branch in told:
        (run / f"{branch.key}.count").write_text(str(branch.relayed), encoding="utf-8")


def _until_refused(branch: Branch) -> None:
    number = 0
    while not branch.refused:
        branch.tell(number)
        number += 1
