"""What a stage costs: linear pipelines of tool nodes that run ``true``, against as many empty Prefect tasks.

Both run in this process against the same local server, interleaved; the median of the repetitions counts. The engine's own
cost is what is left of a stage after Prefect's task and the tool's process are taken away.

Usage: ``python benchmarks/stage_cost.py [--repetitions N] [--output FILE]``
"""

# ruff: noqa: PLC0415 - Prefect reads the environment that this program sets before it is imported
from __future__ import annotations

import argparse
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "explanation" / "performance.md"
SIZES = (10, 50, 100)
FILES = {"plain": 0, "git, 100 files": 100, "git, 5,000 files": 5000}
TARGETS_MS = {"plain": 5.0, "git, 100 files": 20.0}


@dataclass(frozen=True, slots=True)
class Row:
    """Figures of one pipeline length in one workspace; all milliseconds per stage, medians."""

    workspace: str
    stages: int
    stage_ms: float
    prefect_ms: float
    tool_ms: float

    @property
    def own_ms(self) -> float:
        """The engine's own share."""
        return self.stage_ms - self.prefect_ms - self.tool_ms

    @property
    def ratio(self) -> float:
        """A stage as a multiple of an empty Prefect task."""
        return self.stage_ms / self.prefect_ms


def main() -> int:
    """Measures, prints the table and writes the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--output", type=Path, default=PAGE)
    arguments = parser.parse_args()
    scratch = Path(tempfile.mkdtemp(prefix="kilroy-bench-"))
    try:
        rows = measure(scratch, arguments.repetitions)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    text = page(rows, arguments.repetitions)
    arguments.output.write_text(text, encoding="utf-8")
    print(table(rows))
    return 0


def measure(scratch: Path, repetitions: int) -> list[Row]:
    """Runs everything against a local server of its own, which it stops at the end."""
    from kilroy_engine.server.local_server import client_environment, ensure_server, stop_server

    os.environ["XDG_STATE_HOME"] = str(scratch / "state")
    server = ensure_server(state_dir=scratch / "state", on_status=lambda line: print(line, file=sys.stderr))
    os.environ.update(client_environment(server))
    try:
        return [measure_one(scratch, name, files, stages, repetitions) for name, files in FILES.items() for stages in SIZES]
    finally:
        stop_server(scratch / "state")


def measure_one(scratch: Path, name: str, files: int, stages: int, repetitions: int) -> Row:
    """One row: the pipeline and the empty tasks in turns, so that both meet the same conditions."""
    from kilroy_engine.execution.preparing.preparation import RunParameters
    from kilroy_engine.orchestration.flows.launch import launch
    from kilroy_engine.settings.options import Options

    repo = make_repository(scratch / f"repo-{files}", files) if files else None
    graph = pipeline(stages)

    def run_pipeline() -> None:
        options = Options(workspace="git" if repo else "plain", keep_worktree="never")
        final = launch(RunParameters(graph, repo=str(repo or ""), options=options), on_started=lambda started: None)
        assert final.status == "success", final

    run_pipeline()
    tasks, empty = empty_flow(stages), empty_flow(0)
    tasks()
    turns = [
        (timed(run_pipeline), timed(lambda: run_small(launch, repo)), timed(tasks), timed(empty), timed_tool(stages))
        for _ in range(repetitions)
    ]
    whole, small, prefect, nothing, tool = (statistics.median(column) for column in zip(*turns, strict=True))
    print(f"{name}, {stages} stages: run {whole:.2f} s, empty tasks {prefect:.2f} s", file=sys.stderr)
    return Row(
        name,
        stages,
        stage_ms=(whole - small) / stages * 1000,
        prefect_ms=(prefect - nothing) / stages * 1000,
        tool_ms=tool / stages * 1000,
    )


def run_small(launch: Callable[..., object], repo: Path | None) -> None:
    """A run without tool stages: the fixed cost of a run, which is no stage's."""
    from kilroy_engine.execution.preparing.preparation import RunParameters
    from kilroy_engine.settings.options import Options

    options = Options(workspace="git" if repo else "plain", keep_worktree="never")
    launch(RunParameters(pipeline(0), repo=str(repo or ""), options=options), on_started=lambda started: None)


def pipeline(stages: int) -> str:
    """A linear pipeline of ``stages`` tool nodes between start and exit."""
    names = [f"stage_{number}" for number in range(stages)]
    nodes = "\n".join(f'{name} [shape=parallelogram, tool_command="true"]' for name in names)
    edges = " -> ".join(["start", *names])
    last = names[-1] if names else "start"
    condition = ' [condition="outcome=success"]'
    return f"digraph bench {{ start [shape=Mdiamond] done [shape=Msquare] {nodes} {edges} {last} -> done{condition} }}"


def empty_flow(tasks: int) -> Callable[[], object]:
    """A flow of empty tasks, linked and configured as the engine's are."""
    from prefect import allow_failure, flow, task
    from prefect.cache_policies import NO_CACHE
    from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings

    @task(persist_result=False, cache_policy=NO_CACHE, retries=1)
    def nothing() -> None:
        return None

    @flow(name="empty", persist_result=False)
    def empty() -> None:
        previous: list[object] = []
        for number in range(tasks):
            name = f"stage_{number}"
            state = nothing.with_options(name=name, task_run_name=name, tags=["handler:tool"])(
                return_state=True, wait_for=[allow_failure(item) for item in previous]
            )
            previous = [state]

    def run() -> None:
        with temporary_settings(updates={PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}):
            empty()

    return run


def timed(action: Callable[[], object]) -> float:
    """Seconds that ``action`` takes."""
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


def timed_tool(count: int) -> float:
    """Seconds that ``count`` bare processes of the tool take, started as cheaply as Python can with pipes."""
    started = time.perf_counter()
    for _ in range(count):
        subprocess.run(["bash", "-c", "true"], stdin=subprocess.DEVNULL, capture_output=True, check=True)
    return time.perf_counter() - started


def make_repository(path: Path, files: int) -> Path:
    """A git repository of ``files`` small files in folders of a hundred."""
    if path.exists():
        return path
    for number in range(files):
        file = path / f"folder_{number // 100}" / f"file_{number}.txt"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"file {number}\n" * 20, encoding="utf-8")
    identity = ("-c", "user.name=Bench", "-c", "user.email=bench@localhost")
    for arguments in (("init", "--quiet"), ("add", "--all"), ("commit", "--quiet", "--message=files")):
        subprocess.run(["git", *identity, *arguments], cwd=path, check=True)
    for key, value in (("user.name", "Bench"), ("user.email", "bench@localhost")):
        subprocess.run(["git", "config", key, value], cwd=path, check=True)
    return path


def table(rows: list[Row]) -> str:
    """The rows as a markdown table."""
    head = (
        "| workspace | stages | a stage, ms | an empty task, ms | ratio | the tool's process, ms | the engine's own, ms |\n"
        "|---|---|---|---|---|---|---|"
    )
    lines = [
        f"| {row.workspace} | {row.stages} | {row.stage_ms:.1f} | {row.prefect_ms:.1f} | {row.ratio:.1f} | "
        f"{row.tool_ms:.1f} | {row.own_ms:.1f} |"
        for row in rows
    ]
    return "\n".join([head, *lines])


def page(rows: list[Row], repetitions: int) -> str:
    """The documentation page."""
    import prefect

    targets = "; ".join(f"{name}: below {limit:g} ms" for name, limit in TARGETS_MS.items())
    git = subprocess.run(["git", "--version"], capture_output=True, text=True, check=True).stdout.strip()
    return f"""# What a stage costs

Linear pipelines of tool nodes that run `true`, against as many empty Prefect tasks in the same process, on the same local
server, with the same links, names and tags. Written by `make bench`.

{table(rows)}

- *A stage*: time of the run minus the time of a run without tool stages, per stage.
- *An empty Prefect task*: the same difference for a flow of empty tasks. *Ratio* is the stage divided by it.
- *The tool's process*: `bash -c true` with pipes, nothing else.
- *The engine's own*: what is left. Target: {targets}.

What the engine does in that time: route, write eight events under a lock, `status.json`, `tool_invocation.json`,
`tool_timing.json`, two log files, `.kilroy/CONTEXT.md` and `TASK.md`, the checkpoint (with `fsync`), records of `run.log`; in a
git run `git add -A`, and `git write-tree` where files have changed (one git process, or two).

Median of {repetitions} interleaved repetitions. {datetime.now(UTC):%Y-%m-%d}; Prefect {prefect.__version__}, Python
{platform.python_version()}, {git}; {platform.system()} {platform.release()}, {os.cpu_count()} cores, {memory_gib():.0f} GiB.
Load average over 15 minutes at the end: {os.getloadavg()[2]:.1f}; other work on the machine makes every figure larger.
"""


def memory_gib() -> float:
    """Memory of this machine in GiB."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30


if __name__ == "__main__":
    sys.exit(main())
