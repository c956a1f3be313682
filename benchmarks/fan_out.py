"""What branches cost: 64 of them at once, with and without a repository, and 8 fan-outs of 8 inside one.

Every branch runs ``sleep 0.2``, so 0.2 s is what a fan-out would take if branches cost nothing, also with one inside another.
Run it on a machine that does nothing else. Writes ``docs/explanation/fan-out-cost.md``.
"""

# ruff: noqa: PLC0415 - Prefect reads the environment that this program sets before it is imported
from __future__ import annotations

import json
import logging
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "explanation" / "fan-out-cost.md"
WIDE, NESTED = 64, 8
IDEAL_S = 0.2
HEAD = "node [shape=parallelogram] start [shape=Mdiamond] exit [shape=Msquare] "
JOIN = 'p [shape=component, max_parallel=64] j [shape=tripleoctagon] start -> p j -> exit [condition="outcome=success"] '


def wide(branches: int) -> str:
    """A fan-out of so many branches with one stage each."""
    stages = " ".join(f'b{n} [tool_command="sleep {IDEAL_S}"] p -> b{n} -> j' for n in range(branches))
    return f"digraph wide {{ {HEAD}{JOIN}{stages} }}"


def nested(branches: int) -> str:
    """As many fan-outs inside one."""
    parts: list[str] = []
    for n in range(branches):
        parts.append(f"q{n} [shape=component, max_parallel=64] r{n} [shape=tripleoctagon] p -> q{n} r{n} -> j")
        parts += [f'b{n}_{k} [tool_command="sleep {IDEAL_S}"] q{n} -> b{n}_{k} -> r{n}' for k in range(branches)]
    return f"digraph nested {{ {HEAD}{JOIN}{' '.join(parts)} }}"


def measure(name: str, graph: str, repo: Path | None, folder: Path) -> str:
    """One run: a row of the table."""
    from kilroy_engine.execution.preparing.preparation import RunParameters
    from kilroy_engine.orchestration.flows.launch import launch
    from kilroy_engine.settings.options import Options

    run = folder / name.replace(" ", "-")
    options = Options(logs_root=str(run), workspace="git" if repo else "plain")
    own, children = time.process_time(), _children_s()
    final = launch(RunParameters(graph, {}, str(repo or ""), options), on_started=lambda _: None)
    own, children = time.process_time() - own, _children_s() - children
    if final.status != "success":
        raise SystemExit(f"{name}: {final.failure_reason}")
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    row = f"| {name} | {IDEAL_S:.1f} | {_fan_out_s(run):.2f} | {own:.2f} | {children:.2f} | {memory} |"
    print(row, flush=True)
    return row


def _fan_out_s(run: Path) -> float:
    """From the start of the fan-out's attempt to its end, by the run's own stream."""
    times = {}
    for line in (run / "progress.ndjson").read_text(encoding="utf-8").splitlines():
        event = json.loads(line)
        if event.get("node_id") == "p" and event["event"].startswith("stage_attempt_"):
            times[event["event"]] = datetime.fromisoformat(event["ts"][:26].rstrip("Z")).replace(tzinfo=UTC)
    return (times["stage_attempt_end"] - times["stage_attempt_start"]).total_seconds()


def _children_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _repository(folder: Path) -> Path:
    repository = folder / "repository"
    repository.mkdir()
    for number in range(100):
        (repository / f"file{number}").write_text(f"file {number}\n" * 20, encoding="utf-8")
    who = {f"GIT_{who}_{what}": "bench@localhost" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    for arguments in (("init", "--quiet"), ("add", "."), ("commit", "--quiet", "--message=one")):
        subprocess.run(["git", *arguments], cwd=repository, env={**os.environ, **who}, check=True)
    os.environ.update(who)
    return repository


def _rows(folder: Path, repository: Path) -> list[str]:
    return [
        measure(f"{WIDE} branches, plain", wide(WIDE), None, folder),
        measure(f"{WIDE} branches, repository of 100 files", wide(WIDE), repository, folder),
        measure(f"{NESTED} fan-outs of {NESTED} inside one, plain", nested(NESTED), None, folder),
        measure(f"{NESTED} fan-outs of {NESTED} inside one, repository of 100 files", nested(NESTED), repository, folder),
    ]


def main() -> None:
    """Measures and writes the page."""
    from prefect import __version__ as prefect_version

    from kilroy_engine.server.local_server import client_environment, ensure_server, stop_server

    logging.disable(logging.INFO)
    before = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        server = ensure_server(state_dir=folder / "state", on_status=lambda line: print(line, file=sys.stderr))
        os.environ.update(client_environment(server))
        repository = _repository(folder)
        measure("warming up", wide(4), None, folder)
        rows = _rows(folder, repository)
        stop_server(folder / "state")
    facts = (
        f"{datetime.now(UTC):%Y-%m-%d}; Prefect {prefect_version}, Python {platform.python_version()}; {platform.system()}, "
        f"{os.cpu_count()} cores; load {before:.1f} when it began."
    )
    PAGE.write_text(TEXT.format(rows="\n".join(rows), facts=facts), encoding="utf-8")


TEXT = """# What branches cost

Every branch runs `sleep 0.2`, and all of them may run at once (`max_parallel=64`). *Ideal* is what that would take if
branches cost nothing; *fan-out* is what it took, from the start of the fan-out's attempt to its end. Processor time is that
of the flow's process for the whole run, imports left out, and of the processes that it started (git, bash). Memory is the
flow process's largest so far.

| | ideal, s | fan-out, s | processor, own, s | processor, children, s | memory, MB |
|---|---|---|---|---|---|
{rows}

What a branch costs: two task runs (the branch and its stage; with a fan-out of its own more), a directory with a stream, a
checkpoint and a record, `bash`; in a repository a worktree, a commit, and the copy of ignored files. The list of worktrees
is changed by one branch at a time, because git does not guard it; files are checked out side by side. The Prefect server
needs about 17 ms of processor time per task run, on the same machine here.

{facts} Written by `make bench`.
"""


if __name__ == "__main__":
    main()
