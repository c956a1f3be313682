"""The run's stream while branches relay their events to it: every interleaving leaves it valid."""

from __future__ import annotations

import json
import multiprocessing
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from branch_relays import Branch, start_processes
from hypothesis import given, settings
from hypothesis import strategies as st

from kilroy_engine.errors import RunEnded
from kilroy_engine.events import (
    RunCompleted,
    RunFailed,
    RunResumed,
    RunStarted,
    StageAttemptStart,
    WarningGiven,
    to_line,
)
from kilroy_engine.rundir.files.layout import RunDirectory
from kilroy_engine.rundir.stream.progress import ProgressLog, is_ended, read_events

TERMINAL = {"run_completed", "run_failed"}
HALF_WRITTEN = (WarningGiven(message="half"), RunCompleted(start=1), RunFailed(status="fail", reason="half", start=1))

branches = st.integers(0, 3)
steps = st.one_of(
    st.tuples(st.just("branch"), branches),
    st.tuples(st.just("branch"), branches),
    st.tuples(st.just("main"), st.just(0)),
    st.tuples(st.just("torn"), st.integers(0, 10_000)),
    st.tuples(st.just("end"), st.just(0)),
    st.tuples(st.just("resume"), st.just(0)),
)


@dataclass
class Model:
    """A run and what its stream must hold: per start, the branches that were heard, in order."""

    path: Path
    start: int = 1
    ended: bool = False
    torn: int = 0
    heard: list[tuple[int, str]] = field(default_factory=list)
    branches: list[tuple[int, Branch]] = field(default_factory=list)
    logs: list[ProgressLog] = field(default_factory=list)
    told: int = 0

    def open_start(self) -> None:
        """The writers of a start: its own log, two branches that share it, two in processes of their own."""
        shared = self._log()
        own = [shared, shared, self._log(), self._log()]
        self.branches += [(self.start, Branch(self.path, f"s{self.start}b{at}", log)) for at, log in enumerate(own)]

    @property
    def log(self) -> ProgressLog:
        """The present start's own log, which two of its branches share."""
        return self.logs[-3]

    def step(self, what: str, which: int) -> None:
        match what:
            case "branch":
                # Branches of an earlier start go on trying: a thread may outlive the end.
                for start, branch in self.branches[which::4]:
                    self._tell(start, branch)
            case "main":
                self._append_now(StageAttemptStart(node_id="main", attempt=1, max=1))
            case "torn":
                self._tear(which)
            case "end":
                self._append_now(RunFailed(status="fail", reason="over", start=self.start))
                self.ended = True
            case _:
                self._resume()

    def _log(self) -> ProgressLog:
        log = ProgressLog(RunDirectory(self.path), "r1")
        self.logs.append(log)
        return log

    def _tell(self, start: int, branch: Branch) -> None:
        before = branch.relayed
        branch.tell(self.told)
        taken = branch.relayed > before
        assert taken == (start == self.start and not self.ended)
        if taken:
            self.heard.append((start, f"{branch.key}-{self.told}"))
        self.told += 1

    def _append_now(self, event: StageAttemptStart | RunFailed) -> None:
        if self.ended:
            with pytest.raises(RunEnded):
                self.log.append(event)
        else:
            self.log.append(event)

    def _tear(self, seed: int) -> None:
        """A writer dies in the middle of its line, at any byte of it; at the last one only the newline is missing."""
        if self.ended:
            return
        event = HALF_WRITTEN[seed % len(HALF_WRITTEN)]
        line = to_line(event, "r1")
        cut = 1 + seed // len(HALF_WRITTEN) % (len(line) - 1)
        with (self.path / "progress.ndjson").open("ab") as stream:
            stream.write(line[:cut])
        if cut < len(line) - 1:
            self.torn += 1
        elif event.event in TERMINAL:
            self.ended = True
        assert self.log.ended == self.ended  # looking closes the line

    def _resume(self) -> None:
        if not self.ended:
            return
        self.start += 1
        self.open_start()
        self.log.append(RunResumed(start=self.start, from_node="", previous_status="fail"))
        self.ended = False


@contextmanager
def running() -> Iterator[Model]:
    with tempfile.TemporaryDirectory() as folder:
        model = Model(Path(folder))
        model.open_start()
        model.log.append(RunStarted(flow_run_id="flow-1", graph_name="g", goal=""))
        try:
            yield model
        finally:
            for log in (*model.logs, *(branch.log for _, branch in model.branches)):
                log.close()


@given(plan=st.lists(steps, max_size=40))
@settings(max_examples=60)
def test_any_interleaving_of_branches_leaves_a_valid_stream(plan: list[tuple[str, int]]) -> None:
    """Whoever writes when, dies or ends the run: no event is lost, doubled or out of order, and none follows an end.

    A torn line costs itself only. Branches that an earlier start left behind are never heard again. What the run's stream
    refuses stays in the branch's own.
    """
    with running() as model:
        for what, which in plan:
            model.step(what, which)
        lines = (model.path / "progress.ndjson").read_bytes().split(b"\n")
        found = list(read_events(model.path / "progress.ndjson"))
        assert lines.pop() == b""
        assert len(lines) - len(found) == model.torn
        starts, heard = 1, []
        for before, event in zip([None, *found], found, strict=False):
            starts += event["event"] == "run_resumed"
            assert (before is not None and before["event"] in TERMINAL) == (event["event"] == "run_resumed")
            if event["event"] == "branch_progress":
                heard.append((starts, event["branch_node_id"]))
        assert heard == model.heard
        assert is_ended(model.path / "progress.ndjson") == model.ended
        assert len({event["id"] for event in found}) == len(found)
        for _, branch in model.branches:
            own = list(read_events(model.path / "parallel" / "fan" / "pass1" / branch.key / "progress.ndjson"))
            assert len(own) == branch.relayed + branch.refused


def test_branches_in_threads_and_processes_are_heard_whole_until_the_end(tmp_path: Path) -> None:
    """Two processes with three branches each, the run ended in between: every event that was taken is there once, each branch
    in its order without a gap, and the terminal line is the last."""
    processes, barrier = start_processes(tmp_path, processes=2, branches=3, context=multiprocessing.get_context("spawn"))
    log = ProgressLog(RunDirectory(tmp_path), "r1")
    barrier.wait(timeout=120)
    deadline = time.monotonic() + 60
    while sum(1 for _ in read_events(tmp_path / "progress.ndjson")) < 300 and time.monotonic() < deadline:
        log.append(WarningGiven(message="beside"))
    log.append(RunCompleted(start=1))
    for process in processes:
        process.join(timeout=120)
        assert process.exitcode == 0
    *told, last = [json.loads(line) for line in (tmp_path / "progress.ndjson").read_text(encoding="utf-8").splitlines()]
    assert last["event"] == "run_completed"
    counts = {path.stem: int(path.read_text(encoding="utf-8")) for path in tmp_path.glob("*.count")}
    assert len(counts) == 6
    for key, count in counts.items():
        heard = [event["branch_node_id"] for event in told if event.get("branch_key") == key]
        assert heard == [f"{key}-{number}" for number in range(count)]
    assert sum(counts.values()) > 0
