"""The five ways of starting a run, with real processes: a script, the command, ``serve()``, a worker, ``flow-run execute``."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from real_prefect import ROOT, Prefect, eventually

CALL = (
    "import json, sys; from kilroy_engine.orchestration.flows.attractor import attractor; "
    "attractor(**json.loads(sys.argv[1]), return_state=True)"
)
SERVE = "import sys; from kilroy_engine.orchestration.flows.attractor import attractor; attractor.serve(name=sys.argv[1])"


@dataclass
class Run:
    """A run that was started. ``wrapper`` is the process that the test started: the flow's own, or its supervisor."""

    prefect: Prefect
    root: Path
    wrapper: subprocess.Popen[bytes]
    flow_run_id: str = ""
    extra: dict[str, Any] = field(default_factory=dict[str, Any])

    def directory(self, *, within_s: float = 90) -> Path:
        """The run directory, once its first event is written."""

        def opened() -> Path | None:
            return next((path.parent for path in self.root.glob("*/manifest.json")), None)

        run = eventually(opened, within_s=within_s, what="the run directory")
        self.flow_run_id = self.flow_run_id or json.loads((run / "manifest.json").read_text())["flow_run_id"]
        return run

    def flow_pid(self, run: Path) -> int:
        return int((run / "run.pid").read_text())

    def end_everything(self) -> None:
        """Leaves no process of the cell behind."""
        pids = [int(path.read_text()) for path in self.root.glob("*/run.pid")]
        groups = [json.loads(path.read_text())["pgid"] for path in self.root.glob("*/**/process-*.json")]
        for pid in (*pids, self.wrapper.pid):
            _kill(os.kill, pid)
        for group in (*groups, self.wrapper.pid):
            _kill(os.killpg, group)
        self.wrapper.wait()


def _kill(how: Any, number: int) -> None:
    try:
        how(number, signal.SIGKILL)
    except ProcessLookupError:
        pass  # gone already


@dataclass(frozen=True)
class World:
    """Where the cells happen: a server, and deployments each in a pool of its own that only a cell's worker serves."""

    prefect: Prefect
    folder: Path
    deployed: set[str] = field(default_factory=set[str])

    def deploy(self, pool: str) -> None:
        """Makes the pool and the deployment ``attractor/<pool>``, as ``prefect deploy`` does but without its process."""
        if pool in self.deployed:
            return
        self.prefect.post("/work_pools/", name=pool, type="process")
        self.prefect.post(
            "/deployments/",
            name=pool,
            flow_id=self.prefect.post("/flows/", name="attractor")["id"],
            entrypoint="flows/attractor.py:attractor",
            pull_steps=[{"prefect.deployments.steps.set_working_directory": {"directory": str(ROOT)}}],
            work_pool_name=pool,
        )
        self.deployed.add(pool)


def launch(launcher: str, world: World, parameters: Mapping[str, Any], environment: Mapping[str, str], folder: Path) -> Run:
    """Starts a run of ``parameters`` the way that ``launcher`` names; its directory will be below ``folder``/runs."""
    root = folder / "runs"
    root.mkdir(parents=True, exist_ok=True)
    environ = {**world.prefect.environment, "KILROY_RUNS_ROOT": str(root), "PREFECT_WORKER_QUERY_SECONDS": "1", **environment}
    name = f"faults-{uuid.uuid4().hex[:8]}"
    prefect = world.prefect
    match launcher:
        case "script":
            wrapper = _start([sys.executable, "-c", CALL, json.dumps(parameters)], environ, folder)
            return Run(prefect, root, wrapper)
        case "kilroy run":
            wrapper = _start(_kilroy_run(parameters, folder), environ, folder)
            return Run(prefect, root, wrapper)
        case "serve()":
            wrapper = _start([sys.executable, "-c", SERVE, name], environ, folder)
            eventually(lambda: prefect.http.get(f"/deployments/name/attractor/{name}").is_success, what="the deployment")
            return Run(prefect, root, wrapper, prefect.start_run(name, **parameters))
        case "worker":
            world.deploy("faults-worker")
            flow_run_id = prefect.start_run("faults-worker", **parameters)
            command = ["prefect", "worker", "start", "--pool", "faults-worker", "--type", "process"]
            return Run(prefect, root, _start(command, environ, folder), flow_run_id)
        case "execute":
            world.deploy("faults-execute")
            flow_run_id = prefect.start_run("faults-execute", **parameters)
            return Run(prefect, root, _start(["prefect", "flow-run", "execute", flow_run_id], environ, folder), flow_run_id)
        case _:
            raise AssertionError(launcher)


def _kilroy_run(parameters: Mapping[str, Any], folder: Path) -> list[str]:
    graph = folder / "pipeline.dot"
    graph.write_text(parameters["graph"], encoding="utf-8")
    options = dict(parameters["options"])
    given = [f"--{name.replace('_', '-')}={value}" for name, value in options.items() if name != "workspace"]
    return [sys.executable, "-m", "kilroy_engine.cli.main", "run", str(graph), "--no-git", *given]


def _start(command: list[str], environ: Mapping[str, str], folder: Path) -> subprocess.Popen[bytes]:
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # the background job of a shell: its children would ignore Ctrl-C too
        signal.signal(signal.SIGINT, signal.default_int_handler)
    with (folder / "output.log").open("wb") as log:
        return subprocess.Popen(
            command, cwd=folder, env=dict(environ), stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )
