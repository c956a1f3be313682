"""Run directories in which a stage, a disk or a person has left anything at all: an error stays with its run.

Each kind of damage takes the place of each file and folder of a finished and of a lost run, one at a time. Whoever looks at all
runs answers at once, and the runs beside the damaged ones get what is due to them.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings
from starts import open_start

from kilroy_engine.cli.listing import read_runs
from kilroy_engine.cli.main import main
from kilroy_engine.events import RunStarted, StageAttemptEnd, StageAttemptStart
from kilroy_engine.events.times import now
from kilroy_engine.orchestration.ending.reconcile import Action, Patience, reconcile
from kilroy_engine.rundir.ending.finalize import end_run
from kilroy_engine.rundir.ending.which_end_wins import Observed
from kilroy_engine.rundir.files.artifacts import keep_artifact
from kilroy_engine.rundir.files.atomic import write_json, write_text
from kilroy_engine.rundir.files.checkpoint import save_checkpoint
from kilroy_engine.rundir.files.layout import RunDirectory
from kilroy_engine.rundir.files.machine import boot_id, host_name
from kilroy_engine.rundir.files.records import CancelRequest, Conclusion, FinalOutcome, Manifest
from kilroy_engine.rundir.files.runlog import RunLog
from kilroy_engine.rundir.ownership.ownership import Owner
from kilroy_engine.rundir.stages.branches import FanOutRecord, pass_directory
from kilroy_engine.rundir.stages.children import SupervisorRecord, child_directory
from kilroy_engine.rundir.stages.stage_files import write_status
from kilroy_engine.rundir.stream.progress import read_events
from kilroy_engine.traversal.outcome import FinalStatus, success
from kilroy_engine.traversal.state import RunState

AT_ONCE = Patience(grace_s=0)
LIMIT_S = 60
"""For all looks at some fifty damaged directories; a look that blocks would never come back."""
GONE = 4_000_000
"""A process id above every kernel's limit: nobody has it."""
BUG = re.compile(r"\b\w+(Error|Exception): |this is a bug")


@pytest.fixture(autouse=True)
def no_api() -> Iterator[None]:
    """An API address where nobody listens."""
    with temporary_settings(updates={PREFECT_API_URL: "http://127.0.0.1:9/api"}):
        yield


def write_run(run: RunDirectory, *, ended: bool) -> None:
    """A run with every kind of file: stages, a checkpoint, an artifact, a restart, a pass of branches, a child pipeline."""
    name = run.path.name
    start = open_start(run, RunStarted(flow_run_id="f1", graph_name="g", goal=""), run_id=name)
    Manifest(run_id=name, started_at=now(), flow_run_id="f1", worktree=str(run.worktree), outputs=["report.txt"]).write(run)
    run.worktree.mkdir()
    (run.worktree / "report.txt").write_text("42\n")
    write_text(run.graph_dot, "digraph g { start [shape=Mdiamond] done [shape=Msquare] start -> done }")
    write_json(run.run_config, {"version": 1, "git": {"worktree_max_age_ms": 1}})
    start.progress.append(StageAttemptStart(node_id="build", attempt=1, max=1))
    stage = run.stage("build")
    stage.mkdir()
    write_status(stage, success())
    write_text(stage / "stdout.log", "hello\n")
    record = {"pid": GONE, "pgid": GONE, "start_time": 1, "host": host_name(), "boot_id": boot_id()}
    write_json(stage / f"process-{GONE}.json", record)
    start.progress.append(StageAttemptEnd(node_id="build", attempt=1, max=1, status="success"))
    keep_artifact(run, "build@1", "long", "x" * 10)
    save_checkpoint(run, RunState(name, completed=("build",)))
    write_json(run.dossier, {"version": 1})
    RunLog(run).write("engine", "note", "a note")
    run.restart(1).path.mkdir()
    shutil.copy(run.progress, run.restart(1).progress)
    passed = pass_directory(run, "fan", 1)
    passed.path.mkdir(parents=True)
    FanOutRecord(node_id="fan", join_node_id="join").write(passed)
    child = child_directory(stage)
    child.path.mkdir()
    SupervisorRecord(run_id=name, node_id="build").write(child)
    CancelRequest(source="by a test", at=now(), start=7).write(run)
    Conclusion(status=FinalStatus.SUCCESS).write(run)
    owner = start.owner
    start.close()
    if ended:
        end_run(run, owner)


def entries_of(run: RunDirectory) -> list[Path]:
    """Every file and folder in the directory, relative to it; of a folder's own files one is enough."""
    return sorted(path.relative_to(run.path) for path in run.path.rglob("*"))


def _pipe(path: Path) -> None:
    os.mkfifo(path)


def _socket(path: Path) -> None:
    folder = os.open(path.parent, os.O_RDONLY)  # a socket's address may have some hundred characters only
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(f"/proc/self/fd/{folder}/{path.name}")
    os.close(folder)


def _content(content: bytes) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        path.write_bytes(content)

    return write


def _large(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(17 << 20)


WRONG_TYPES = (
    b'{"event": [], "status": {}, "run_id": 7, "start": "x", "pid": "x", "node_id": [], "ts": 5, "outcome": 3, "labels": 3}\n'
    b'{"event": "run_failed", "status": 7, "start": []}\n{"event": "stage_attempt_start", "node_id": {}, "attempt": "x"}\n'
    b'{"event": "loop_restart", "restart_count": "x"}\n{"event": "stage_attempt_end", "node_id": "build", "ts": "yesterday"}\n'
)
MISSING_FIELDS = b'{"event": "run_failed"}\n{"event": "run_completed"}\n{"event": "stage_attempt_start"}\n{}\n'
DAMAGES: dict[str, Callable[[Path], None]] = {
    "named pipe": _pipe,
    "socket": _socket,
    "link to a device": lambda path: path.symlink_to("/dev/zero"),
    "dangling link": lambda path: path.symlink_to("nowhere"),
    "link to itself": lambda path: path.symlink_to(path.name),
    "link to the folder above": lambda path: path.symlink_to(".."),
    "folder": lambda path: path.mkdir(),
    "17 MiB": _large,
    "deep JSON": _content(b"[" * 200_000 + b"\n"),
    "JSON of depth 150": _content(b'{"a":' * 150 + b"1" + b"}" * 150 + b"\n"),
    "wrong types": _content(WRONG_TYPES),
    "one object of wrong types": _content(WRONG_TYPES.partition(b"\n")[0]),
    "missing fields": _content(MISSING_FIELDS),
    "an empty object": _content(b"{}"),
    "a list": _content(b"[[1], null]\n"),
    "empty": _content(b""),
    "not UTF-8": _content(b'\xff\xfe{"event": "\xc3\x28"}\n'),
    "very many lines": _content(b"x\n{\n" * 50_000),
}


class TooLong(BaseException):
    """No error of the product, so that nothing in the product takes it for one."""


@contextmanager
def within_seconds(limit: int) -> Generator[None]:
    """Breaks off what takes longer, blocked or not."""

    def too_long(number: int, frame: object) -> None:
        del number, frame
        raise TooLong(f"still at it after {limit} s")

    before = signal.signal(signal.SIGALRM, too_long)
    signal.alarm(limit)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def damaged_copies(root: Path, run: RunDirectory, do: Callable[[Path], None]) -> list[RunDirectory]:
    """A copy of the run for each of its entries, with the damage in the place of that entry."""
    copies: list[RunDirectory] = []
    for number, entry in enumerate(entries_of(run)):
        copy = RunDirectory(root / f"{run.path.name}-{number:02d}")
        shutil.copytree(run.path, copy.path)
        place = copy.path / entry
        if place.is_dir():
            shutil.rmtree(place)
        else:
            place.unlink()
        do(place)
        copies.append(copy)
    return copies


QUICK = {"named pipe", "wrong types"}


@pytest.mark.parametrize("damage", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in DAMAGES])
def test_damage_of_any_kind_stays_with_its_run(damage: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The list has a row for each run; every lost run is ended or is one error that says what is wrong; ``status`` and ``show``
    of any say what is known, or one sentence. The lost run beside them is ended."""
    root, models = tmp_path / "runs", tmp_path / "models"
    finished, lost = RunDirectory(models / "finished"), RunDirectory(models / "lost")
    write_run(finished, ended=True)
    write_run(lost, ended=False)
    write_run(RunDirectory(root / "neighbor"), ended=False)
    copies = [*damaged_copies(root, finished, DAMAGES[damage]), *damaged_copies(root, lost, DAMAGES[damage])]

    with within_seconds(LIMIT_S):
        found, damaged = read_runs(root)
        findings = {one.run_id: one for one in reconcile(root, patience=AT_ONCE)}
        for run in copies:
            for command in (["status"], ["runs", "show"]):
                code = main([*command, run.path.name, "--runs-root", str(root)])
                told = capsys.readouterr()
                assert code in (0, 1), (run, command)
                assert not BUG.search(told.err), (run, told.err)
                assert len(told.err.splitlines()) == code, (run, told.err)

    names = {run.path.name for run in copies if (run.lock.exists() or run.manifest.exists() or run.progress.exists())}
    assert names | {"neighbor"} <= {one.path.name for one in found} | {one.path.name for one in damaged}
    assert not [one.problem for one in damaged if BUG.search(one.problem)]
    assert not [one.what for one in findings.values() if BUG.search(one.what)]
    assert (findings["neighbor"].action, findings["neighbor"].status) == (Action.END, "success")
    for run in copies:
        finding = findings.get(run.path.name)
        if run.path.name.startswith("lost") and (finding is None or finding.action is not Action.ERROR):
            final, lines = FinalOutcome.read(run), list(read_events(run.progress))
            assert (lines[-1]["event"], lines[-1]["status"]) in {("run_completed", final.status), ("run_failed", final.status)}


def test_nothing_is_written_through_links_in_a_run_directory(tmp_path: Path) -> None:
    """A finalizer meets links where it writes: files, a folder, names for a moment. What they lead to stays as it is."""
    victims = tmp_path / "victims"
    victims.mkdir()
    run = RunDirectory(tmp_path / "runs" / "r1")
    write_run(run, ended=False)
    for path in (run.progress, run.live, run.log, run.commit_lock, run.end_lock, run.final, run.path / ".tmp-live.json"):
        victim = victims / path.name.strip(".")
        victim.write_text("precious")
        path.unlink(missing_ok=True)
        path.symlink_to(victim)
    (victims / "outputs").mkdir()
    run.outputs.symlink_to(victims / "outputs")

    end_run(run, Owner("f1", 1), Observed(FinalStatus.FAIL, "it was"))

    assert {path.name: path.read_text() for path in victims.iterdir() if path.is_file()} == {
        path.name: "precious" for path in victims.iterdir() if path.is_file()
    }
    assert list((victims / "outputs").iterdir()) == []
    assert FinalOutcome.read(run).status is FinalStatus.SUCCESS
    assert [event["event"] for event in read_events(run.progress)][-1] == "run_completed"
