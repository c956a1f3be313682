"""Counts the functions of ours that a thing passes on its way through the engine, by tracing every call of a real run.

Three ways are counted, each in a small pipeline on a real Prefect server:

- ``command``: a ``tool_command`` from its DOT text to the context of the run;
- ``cancel``: a cancel in Prefect from the look that finds it to the terminal line;
- ``branch``: what a branch came to, from the end of its walk to the fan-in.

What a hop is. Each way has waypoints: functions that the thing surely comes through, named below, in their order of time. A
hop is a function of ``kilroy_engine`` that stands on the shortest way through the tree of calls from one waypoint to the next:
up to the function that has called both, and down again. A thread's first function counts as called by whoever started it.

A second figure is wider: the hops, and every function called between the first waypoint and the last one that is handed the
thing itself or gives it back, as an argument or a return value, not in a field of another object. Which classes of object the
thing takes on is said below; text counts where it holds the word that marks the command. That figure has everybody in it who
looks at the thing in passing, properties and log lines too.

A function counts once, however often it is called; a generator and its resumptions are one function; comprehensions and lambdas
belong to the function around them. Functions of Prefect, of pydantic and of the standard library are no hops, so what Prefect
does between two of ours is not seen.

Usage: ``python scripts/hops.py [--checkout FOLDER] [--way WAY] [--list]`` traces the engine in another folder (default: this
checkout). ``--list`` names the hops. Prints a table of hops and the files that they are in, and one of modules and lines per
folder. It starts a local server of its own and takes about a minute.
"""

# ruff: noqa: PLC0415, T201 - the traced process imports the engine of the checkout that it is told; a script prints
from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, TypeAlias

ROOT = Path(__file__).resolve().parents[1]
WORD = "hopscotch"
Functions: TypeAlias = list[tuple[str, str]]
"""Functions by file and qualified name, sorted."""

HEAD = "digraph hops { node [shape=parallelogram] start [shape=Mdiamond] done [shape=Msquare] "


@dataclass(frozen=True, slots=True)
class Waypoint:
    """A function by the end of its qualified name, once one of its arguments or its return value is as ``where`` says."""

    name: str
    where: Callable[[Mapping[str, Any]], bool] = lambda values: True
    returning: bool = False


@dataclass(frozen=True, slots=True)
class Way:
    """``carried`` are the names of the classes that the thing takes on, from the waypoint ``comes_about`` on."""

    graph: str
    waypoints: tuple[Waypoint, ...]
    carried: frozenset[str]
    comes_about: int = 0
    cancels: bool = False


WAYS: Mapping[str, Way] = {
    "command": Way(
        HEAD + f'tool [tool_command="echo {WORD}"] start -> tool  tool -> done [condition="outcome=success"] }}',
        (
            Waypoint("AttributeReader._attribute", lambda values: WORD in getattr(values.get("return"), "value", ""), True),
            Waypoint("run_tool"),
            Waypoint("run_command"),
            Waypoint("judge", lambda values: getattr(values.get("node"), "id", "") == "tool"),
            Waypoint("to_task_state"),
            Waypoint("apply_outcome", lambda values: getattr(values.get("visit"), "node_id", "") == "tool"),
        ),
        frozenset({"Outcome", "Settled", "Command", "CommandEnd"}),
        comes_about=1,
    ),
    "cancel": Way(
        HEAD + 'tool [tool_command="echo at work; sleep 300"] start -> tool  tool -> done [condition="outcome=success"] }',
        (
            Waypoint("is_canceled|_canceled_on_server", lambda values: values.get("return") is True, True),
            Waypoint("Cancellation.request"),
            Waypoint("run_command", returning=True),
            Waypoint("to_task_state"),
            Waypoint("Record.write", lambda values: type(values.get("self")).__name__ == "Conclusion"),
            Waypoint("finalize"),
            Waypoint("Finalizer.commit_final"),
            Waypoint("Finalizer.commit_line"),
            Waypoint("ProgressLog.append", lambda values: type(values.get("event")).__name__ == "RunFailed"),
        ),
        frozenset({"Stop", "RunCanceled", "CancelRequest", "Conclusion", "Evidence", "Observed", "FinalOutcome", "State"}),
        cancels=True,
    ),
    "branch": Way(
        HEAD
        + f'p [shape=component] j [shape=tripleoctagon] one [tool_command="echo {WORD}"] two [tool_command="echo {WORD}"] '
        + 'start -> p  p -> one -> j  p -> two -> j  j -> done [condition="outcome=success"] }',
        (
            Waypoint("branch_outcome", returning=True),
            Waypoint("Record.write", lambda values: type(values.get("self")).__name__ == "BranchRecord"),
            Waypoint("verdict"),
            Waypoint("apply_outcome", lambda values: getattr(values.get("visit"), "node_id", "") == "p"),
            Waypoint("FanInHandler.__call__"),
        ),
        frozenset({"Outcome", "BranchResult", "BranchRecord", "Settled"}),
    ),
}


@dataclass(slots=True, eq=False)
class Call:
    """A call of a function of ours. ``by`` called it, in whichever thread."""

    code: CodeType
    by: Call | None
    handed: bool = False
    number: int = 0

    def ancestors(self) -> Iterator[Call]:
        """The call itself, the one that made it, and so on."""
        call: Call | None = self
        while call is not None:
            yield call
            call = call.by


@dataclass
class Trace:
    """Every call of ours, in the order of time, until the last waypoint was reached."""

    package: str
    way: Way
    calls: list[Call] = field(default_factory=list[Call])
    reached: list[tuple[Call, int]] = field(default_factory=list[tuple[Call, int]])
    _lock: threading.RLock = field(default_factory=threading.RLock)
    _here: threading.local = field(default_factory=threading.local)

    def begin(self) -> None:
        """Traces this thread and all that begin from now on."""
        start = threading.Thread.start
        trace = self

        def remembered(thread: threading.Thread) -> None:
            thread.started_by = trace._stack()[-1] if trace._stack() else None  # type: ignore[attr-defined]
            start(thread)

        threading.Thread.start = remembered  # type: ignore[method-assign]
        threading.setprofile(self._profile)
        sys.setprofile(self._profile)

    def _stack(self) -> list[Call]:
        if not hasattr(self._here, "stack"):
            self._here.stack = []
        return self._here.stack

    def _profile(self, frame: FrameType, event: str, value: Any) -> None:
        code = frame.f_code
        if event not in ("call", "return") or not code.co_filename.startswith(self.package):
            return
        stack = self._stack()
        if event == "call":
            by = stack[-1] if stack else getattr(threading.current_thread(), "started_by", None)
            call = Call(code, by)
            stack.append(call)
            values = {name: frame.f_locals.get(name) for name in code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]}
        elif stack:
            call, values = stack.pop(), {"return": value}
        else:
            return  # it was called before the trace began
        with self._lock:
            if len(self.reached) == len(self.way.waypoints):
                return
            call.handed = call.handed or any(self._carries(given) for given in values.values())
            if event == "call":
                call.number = len(self.calls)
                self.calls.append(call)
            self._reach(call, values, returning=event == "return")

    def _carries(self, value: Any) -> bool:
        if isinstance(value, str):
            return WORD in value and "digraph" not in value
        kind = type(value).__name__
        if kind == "Attribute":
            return WORD in getattr(value, "value", "")
        return kind in self.way.carried and len(self.reached) > self.way.comes_about

    def _reach(self, call: Call, values: Mapping[str, Any], *, returning: bool) -> None:
        wanted = self.way.waypoints[len(self.reached)]
        names = wanted.name.split("|")
        if returning != wanted.returning or not any(f".{call.code.co_qualname}".endswith(f".{name}") for name in names):
            return
        if wanted.where(values):
            self.reached.append((call, len(self.calls)))

    def hops(self) -> tuple[Functions, Functions]:
        """The functions on the way, and those that are handed the thing as well."""
        wanted, reached = [waypoint.name for waypoint in self.way.waypoints], self.reached
        if len(reached) < len(wanted):
            raise SystemExit(f"the run never came to {wanted[len(reached)]} (after {', '.join(wanted[: len(reached)])})")
        on_the_way = [call for (one, _), (next_, _) in pairwise(reached) for call in between(one, next_)]
        handed = [call for call in self.calls[reached[0][0].number : reached[-1][1]] if call.handed]
        hops = {function_of(call, self.package) for call in on_the_way}
        return sorted(hops), sorted(hops | {function_of(call, self.package) for call in handed})


def between(one: Call, other: Call) -> list[Call]:
    """The shortest way through the tree of calls, both ends included."""
    above = list(one.ancestors())
    known = {id(call): index for index, call in enumerate(above)}
    down: list[Call] = []
    for call in other.ancestors():
        if id(call) in known:
            return [*above[: known[id(call)] + 1], *down]
        down.append(call)
    return [*above, *down]


def function_of(call: Call, package: str) -> tuple[str, str]:
    """File and name of the function; a comprehension or a lambda is the function around it."""
    name = call.code.co_qualname.split(".<locals>.<")[0]
    return str(Path(call.code.co_filename).relative_to(package)), name.removesuffix(".<locals>")


def traced(way: Way, package: str, folder: Path) -> tuple[Functions, Functions]:
    """Carries the pipeline out in this process, against the server that the environment names."""
    try:
        from kilroy_engine.execution.preparing.preparation import RunParameters
        from kilroy_engine.execution.preparing.settings import Options
        from kilroy_engine.orchestration.flows.launch import launch
    except ModuleNotFoundError:  # before the engine was split at Prefect
        from kilroy_engine.orchestration.launch import launch
        from kilroy_engine.orchestration.preparation import RunParameters
        from kilroy_engine.orchestration.settings import Options

    trace, run = Trace(package, way), folder / "run"

    def started(begun: Any) -> None:
        if way.cancels:
            threading.Thread(target=cancel, args=(run, begun.flow_run_id), daemon=True).start()

    trace.begin()
    launch(RunParameters(way.graph, options=Options(workspace="plain", logs_root=str(run))), on_started=started)
    sys.setprofile(None)
    return trace.hops()


def cancel(run: Path, flow_run_id: object) -> None:
    """Cancels the flow run as the UI does, once the tool has said that it is at work."""
    import httpx

    output, deadline = run / "tool" / "stdout.log", time.monotonic() + 120
    while not (output.exists() and output.stat().st_size) and time.monotonic() < deadline:
        time.sleep(0.05)
    address = f"{os.environ['PREFECT_API_URL']}/flow_runs/{flow_run_id}/set_state"
    httpx.post(address, json={"state": {"type": "CANCELLING"}}, timeout=30).raise_for_status()


def counted(checkout: Path, ways: Sequence[str]) -> dict[str, list[Functions]]:
    """The functions on each way as :meth:`Trace.hops` gives them. Each is traced in a process of its own; the server and the
    homes of all are gone afterwards."""
    sys.path.insert(0, str(ROOT))
    from kilroy_engine.server.local_server import client_environment, ensure_server, stop_server

    found: dict[str, list[Functions]] = {}
    with tempfile.TemporaryDirectory(prefix="kilroy-hops-") as place:
        server = ensure_server(state_dir=Path(place, "server"), on_status=lambda line: None)
        homes = {"HOME": place, "XDG_STATE_HOME": f"{place}/state", "PREFECT_HOME": f"{place}/prefect"}
        environment = {**os.environ, **homes, "PYTHONPATH": str(checkout), **client_environment(server)}
        try:
            for way in ways:
                folder = Path(place, way)
                folder.mkdir()
                command = [sys.executable, __file__, "--trace", way, "--checkout", str(checkout)]
                done = subprocess.run(command, cwd=folder, env=environment, stdout=subprocess.PIPE, timeout=300, check=True)
                found[way] = [
                    [(file, name) for file, name in functions] for functions in json.loads(done.stdout.splitlines()[-1])
                ]
        finally:
            stop_server(Path(place, "server"))
    return found


def folders(package: Path) -> dict[str, tuple[int, int]]:
    """Modules and lines per folder, by its path below the package."""
    sizes: dict[str, tuple[int, int]] = {}
    for module in sorted(package.rglob("*.py")):
        folder = module.parent.relative_to(package).as_posix()
        modules, lines = sizes.get(folder, (0, 0))
        empty = module.name == "__init__.py" and module.stat().st_size == 0
        sizes[folder] = modules + (not empty), lines + len(module.read_text(encoding="utf-8").splitlines())
    return sizes


def main() -> None:
    """Prints the tables, or, in the traced process, the functions of one way."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--checkout", type=Path, default=ROOT)
    parser.add_argument("--way", choices=WAYS)
    parser.add_argument("--list", action="store_true", help="name the functions, too")
    parser.add_argument("--trace", choices=WAYS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    checkout = arguments.checkout.resolve()
    package = f"{checkout / 'kilroy_engine'}{os.sep}"
    if arguments.trace:
        print(json.dumps(traced(WAYS[arguments.trace], package, Path.cwd())))
        return
    found = counted(checkout, [arguments.way] if arguments.way else list(WAYS))
    print("| way | hops | files | handed it, too | files |\n|---|---|---|---|---|")
    for way, (hops, wider) in found.items():
        cells = [f"{len(functions)} | {len({file for file, _ in functions})}" for functions in (hops, wider)]
        print(f"| {way} | {' | '.join(cells)} |")
    for way, (hops, _) in found.items() if arguments.list else ():
        print(f"\n{way}:", *(f"{file}: {name}" for file, name in hops), sep="\n  ")
    print("\n| folder | modules | lines |\n|---|---|---|")
    for folder, (modules, lines) in folders(checkout / "kilroy_engine").items():
        print(f"| `{folder}` | {modules} | {lines} |")


if __name__ == "__main__":
    main()
