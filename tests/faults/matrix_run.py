"""Carries out one cell of the matrix and measures what became of the run."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import httpx
from launchers import Run, World, launch
from matrix_cells import AT_BRANCHES, FAULTS, GRACE_S, INTERVAL_S, NO_DIRECTORY, OUTAGE_S, Expected, Fault, expected
from prefect.settings import PREFECT_API_URL, temporary_settings
from real_prefect import ROOT, Prefect, child_environment, events, eventually, is_alive

from kilroy_engine.orchestration.ending.reconcile import Patience, reconcile
from kilroy_engine.rundir.files.layout import RunDirectory
from kilroy_engine.rundir.ownership.ownership import owner_alive
from kilroy_engine.server.local_server import client_environment, ensure_server, stop_server

TERMINAL = {"run_completed", "run_failed"}
INJECTED = Path(__file__).parent / "injected"
SETUP = "version: 1\nsetup:\n  commands: ['echo waiting; sleep 300']\n"
SETTLE_S = 20.0
"""How much longer than promised a cell is watched, to tell late from never."""


@dataclass(frozen=True)
class Observed:
    """What became of a run. ``delay_s`` is from the fault to the moment when all of it was true."""

    launcher: str
    fault: str
    status: str
    reason: str
    prefect: str
    delay_s: float
    by: str
    problems: tuple[str, ...]


def carry_out(launcher: str, fault_name: str, world: World, folder: Path) -> Observed:
    """Starts the run, lets the fault happen, waits for the end."""
    fault = next(fault for fault in FAULTS if fault.name == fault_name)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "setup.yaml").write_text(SETUP, encoding="utf-8")
    options = {"workspace": "plain", **dict(fault.options)}
    if "config" in options:
        options["config"] = str(folder / "setup.yaml")
    parameters = {"graph": fault.graph, "options": options}
    environment = {**dict(fault.environment), "PYTHONPATH": f"{INJECTED}{os.pathsep}{ROOT}"}
    if "KILROY_TEST_HOLD" in environment:
        environment["KILROY_TEST_HOLD"] = str(folder / "go")
    wanted = expected(launcher, fault.name)
    with _own_server(world, folder) if fault.name.startswith("server gone") else nullcontext(world) as world:
        if fault.name in ("cancel: while scheduled", "cancel: while pending"):
            return _without_process(launcher, fault, world, wanted, folder)
        with _small_disk(folder / "runs") if fault.name == "disk full" else nullcontext():
            run = launch(launcher, world, parameters, environment, folder)
            try:
                began = _happen(fault, launcher, run, folder)
                return _watch(launcher, fault, run, wanted, began)
            finally:
                run.end_everything()


def _at_work(run: Run, directory: Path) -> None:
    """Waits until the position of the fault is reached: some output of the stage or of the set-up command."""

    def told() -> bool:
        stages = (*directory.glob("wait"), *directory.glob("parallel/*/pass*/*/wait"))
        logs = [log for stage in stages for log in (*stage.glob("stdout.log"), *stage.glob("attempt_*/stdout.log"))]
        return any("waiting" in log.read_text() for log in (*logs, *directory.glob("run.setup/*/stdout.log")))

    eventually(told, what="a stage at work")


def _happen(fault: Fault, launcher: str, run: Run, folder: Path) -> float:
    """Waits for the position of the fault and lets it happen; when it did."""
    directory = run.directory()
    _reach(fault.name, run, directory)
    if fault.name.startswith("cancel:"):
        _cancel(run)
    elif (strike := STRIKES.get(fault.name.removesuffix(AT_BRANCHES))) is not None:
        strike(run, directory, launcher, folder)
    return time.monotonic()


def _reach(name: str, run: Run, directory: Path) -> None:
    match name:
        case "success" | "failure" | "exception in our code":
            return
        case "run deadline":
            eventually(lambda: _age_s(directory) >= 3, what="the deadline")
        case "disk full":
            eventually((directory / "wait" / "stdout.log").exists, what="a stage at work")
        case _ if name.startswith("server gone at the end"):
            eventually((directory / "conclusion.json").exists, what="the walk's conclusion")
        case _ if name.startswith("hook killed"):
            eventually((directory / "final.json").exists, what="the hook")
        case "cancel: in a retry delay":
            eventually(lambda: "stage_retry_sleep" in {e["event"] for e in events(directory)}, what="the retry delay")
        case "cancel: between stages":
            eventually(lambda: len(events(directory)) > 30, what="some stages")
        case _:
            _at_work(run, directory)


def _ctrl_c(run: Run, directory: Path, launcher: str, folder: Path) -> None:
    os.killpg(run.wrapper.pid, signal.SIGINT)


def _ctrl_c_twice(run: Run, directory: Path, launcher: str, folder: Path) -> None:
    os.killpg(run.wrapper.pid, signal.SIGINT)
    time.sleep(0.3)  # a person's second key stroke
    _send(os.killpg, run.wrapper.pid, signal.SIGINT)


def _terminate_flow(run: Run, directory: Path, launcher: str, folder: Path) -> None:
    os.kill(run.flow_pid(directory), signal.SIGTERM)


def _terminate_wrapper(run: Run, directory: Path, launcher: str, folder: Path) -> None:
    run.wrapper.terminate()
    if launcher == "execute":
        run.wrapper.wait(timeout=30)
    if launcher != "worker":  # the flow process is at work as before: its wrapper has left, or waits for it and acts no more
        _cancel(run)


def _kill_flow(run: Run, directory: Path, launcher: str, folder: Path) -> None:
    os.kill(run.flow_pid(directory), signal.SIGKILL)


def _kill_wrapper_and_cancel(run: Run, directory: Path, launcher: str, folder: Path) -> None:
    run.wrapper.kill()
    run.wrapper.wait()
    _cancel(run)


def _kill_both(run: Run, directory: Path, launcher: str, folder: Path) -> None:
    run.wrapper.kill()
    _kill_flow(run, directory, launcher, folder)


def _stop_server(run: Run, directory: Path, launcher: str, folder: Path) -> None:
    stop_server(folder / "server")
    _until_given_up(run, directory)
    ensure_server(state_dir=folder / "server", on_status=lambda line: None)


def _stop_server_at_the_end(run: Run, directory: Path, launcher: str, folder: Path) -> None:
    stop_server(folder / "server")
    (folder / "go").touch()
    time.sleep(OUTAGE_S)
    ensure_server(state_dir=folder / "server", on_status=lambda line: None)


def _stop_server_at_the_end_for_long(run: Run, directory: Path, launcher: str, folder: Path) -> None:
    stop_server(folder / "server")
    (folder / "go").touch()
    _until_given_up(run, directory)
    ensure_server(state_dir=folder / "server", on_status=lambda line: None)


def _free_disk(run: Run, directory: Path, launcher: str, folder: Path) -> None:
    _until_given_up(run, directory)
    (directory / "fill").unlink()


def _until_given_up(run: Run, directory: Path) -> None:
    pid = run.flow_pid(directory)
    eventually(lambda: not is_alive(pid) or _lock_is_free(directory), within_s=280, what="the flow giving up")


STRIKES: Mapping[str, Callable[[Run, Path, str, Path], None]] = {
    "Ctrl-C once": _ctrl_c,
    "Ctrl-C twice": _ctrl_c_twice,
    "SIGTERM to the flow process": _terminate_flow,
    "SIGTERM to its wrapper": _terminate_wrapper,
    "SIGKILL of the flow process": _kill_flow,
    "SIGKILL of the wrapper, then a cancel": _kill_wrapper_and_cancel,
    "SIGKILL of wrapper and flow process": _kill_both,
    "server gone while at work": _stop_server,
    "server gone at the end": _stop_server_at_the_end,
    "server gone at the end, for long": _stop_server_at_the_end_for_long,
    "disk full": _free_disk,
}


def _send(how: Callable[[int, int], None], number: int, sent: int) -> None:
    try:
        how(number, sent)
    except ProcessLookupError:
        pass  # the first one was enough


def _cancel(run: Run) -> None:
    run.prefect.post(f"/flow_runs/{run.flow_run_id}/set_state", state={"type": "CANCELLING"})


def _age_s(directory: Path) -> float:
    return time.time() - (directory / "run.pid").stat().st_mtime


def _lock_is_free(directory: Path) -> bool:
    return not owner_alive(RunDirectory(directory))


def _watch(launcher: str, fault: Fault, run: Run, wanted: Expected, began: float) -> Observed:
    directory = run.directory()
    problems: list[str] = []
    with _reconciling(run) if "reconcile" in wanted.by else nullcontext():
        deadline = began + wanted.within_s + SETTLE_S
        while (missing := _missing(run, directory, wanted)) and time.monotonic() < deadline:
            time.sleep(0.05)
        delay_s = time.monotonic() - began
    if missing:
        problems.append(f"after {delay_s:.0f} s still: {missing}")
    elif delay_s > wanted.within_s:
        problems.append(f"late: {delay_s:.1f} s instead of {wanted.within_s:g} s")
    final = json.loads(text) if (text := _text(directory / "final.json")) else {}
    state = run.prefect.flow_run(run.flow_run_id)["state"]
    problems += _contract(directory, final)
    status, reason, shown = final.get("status", ""), final.get("failure_reason", ""), state["type"]
    if status != wanted.status or shown not in wanted.prefect.split("|"):
        problems.append(f"{status}/{shown} instead of {wanted.status}/{wanted.prefect}")
    if not re.fullmatch(wanted.reason, reason):
        problems.append(f"reason {reason!r} instead of {wanted.reason!r}")
    return Observed(launcher, fault.name, status, reason, shown, delay_s, wanted.by, tuple(problems))


def _missing(run: Run, directory: Path, wanted: Expected) -> str:
    """What is not there yet of the end: terminal line, Prefect's state, quiet child processes. "" when all is."""
    text = _text(directory / "progress.ndjson")
    last = text.splitlines()[-1] if text.endswith("\n") else "{}"
    if _event(last) not in TERMINAL:
        return "no terminal line"
    state = run.prefect.flow_run(run.flow_run_id)["state"]
    if not state or state["type"] not in wanted.prefect.split("|"):
        return f"Prefect says {state and state['name']}"
    pids = [json.loads(path.read_text())["pid"] for path in directory.glob("**/process-*.json")]
    alive = [pid for pid in pids if is_alive(pid)]
    return f"{len(alive)} child processes" if alive else ""


def _contract(directory: Path, final: dict[str, object]) -> list[str]:
    """What the run directory promises of an end."""
    lines = [_event(line) for line in _text(directory / "progress.ndjson").splitlines()]
    ends = [name for name in lines if name in TERMINAL]
    if len(ends) != 1 or lines[-1] not in TERMINAL:
        return [f"{len(ends)} terminal lines"]
    line = json.loads(_text(directory / "progress.ndjson").splitlines()[-1])
    agrees = (line["status"], line.get("reason", "")) == (final.get("status"), final.get("failure_reason", ""))
    written = (directory / "final.json").stat().st_mtime_ns <= (directory / "progress.ndjson").stat().st_mtime_ns
    return [] if agrees and written else ["the terminal line and final.json do not agree"]


def _event(line: str) -> str:
    try:
        return str(json.loads(line).get("event", ""))
    except ValueError:
        return ""  # torn by a kill, closed by the next writer


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.exists() else ""


@contextmanager
def _reconciling(run: Run) -> Generator[None]:
    """The reconciler at its interval, in this process, which is none of the run's."""
    finished = threading.Event()

    def work() -> None:
        with temporary_settings(updates={PREFECT_API_URL: run.prefect.api_url}):
            while not finished.wait(INTERVAL_S):
                reconcile(run.root, patience=Patience(grace_s=GRACE_S, heartbeat_s=GRACE_S))

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        finished.set()
        thread.join()


def _without_process(launcher: str, fault: Fault, world: World, wanted: Expected, folder: Path) -> Observed:
    """A cancel before any process exists: Prefect's state is the end, and no directory appears."""
    world.deploy("faults-idle")
    prefect = world.prefect
    graph = {"graph": fault.graph, "options": {"workspace": "plain"}}
    flow_run_id = prefect.start_run("faults-idle", **graph)
    if fault.name == "cancel: while pending":
        prefect.post(f"/flow_runs/{flow_run_id}/set_state", state={"type": "PENDING"})
    began = time.monotonic()
    (folder / "runs").mkdir()
    run = Run(prefect, folder / "runs", subprocess.Popen(["true"]), flow_run_id)
    run.wrapper.wait()
    _cancel(run)
    with _reconciling(run) if "reconcile" in wanted.by else nullcontext():
        deadline = began + wanted.within_s + SETTLE_S
        while (shown := prefect.flow_run(flow_run_id)["state"]["type"]) != wanted.prefect and time.monotonic() < deadline:
            time.sleep(0.05)
    delay_s = time.monotonic() - began
    problems = [] if shown == wanted.prefect and delay_s <= wanted.within_s else [f"{shown} after {delay_s:.0f} s"]
    if list(run.root.iterdir()):
        problems.append("a run directory appeared")
    return Observed(launcher, fault.name, NO_DIRECTORY, "", shown, delay_s, wanted.by, tuple(problems))


@contextmanager
def _own_server(world: World, folder: Path) -> Generator[World]:
    """A server that the cell may stop and start again."""
    server = ensure_server(state_dir=folder / "server", on_status=lambda line: None)
    try:
        with httpx.Client(base_url=server.api_url, timeout=30) as http:
            home = folder / "home"
            prefect = Prefect(server.api_url, child_environment(home, client_environment(server)), http)
            yield World(prefect, world.folder)
    finally:
        stop_server(folder / "server")


@contextmanager
def _small_disk(place: Path) -> Generator[None]:
    """A file system of 2 MB at ``place``."""
    place.mkdir(parents=True)
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(place)], capture_output=True, check=False)
    if mounted.returncode:
        raise MountNotPermitted(mounted.stderr.decode().strip())
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


class MountNotPermitted(Exception):
    """This machine does not let the test mount a small file system."""
