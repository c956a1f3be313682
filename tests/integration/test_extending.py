"""An installed distribution with a handler, and a workflow package with its scripts: runs as users start them."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from real_prefect import Prefect

KILROY = [sys.executable, "-m", "kilroy_engine.cli.main"]
ENTRY_POINTS = """
[kilroy_engine.handlers]
acme.shout = acme_nodes:shout
acme.load = acme_nodes:load
acme.broken = acme_nodes:absent
"""
MODULE = """
from kilroy_engine import CallPrefect, ObjectCallee, Outcome, StageRequest, failure, success


def shout(request: StageRequest, /) -> Outcome:
    text = request.node.text("acme.text")
    if not text:
        return failure("acme.text is empty")
    (request.work_dir / "shout.txt").write_text(text.upper())
    request.output("stdout", text.upper())
    return success("shouted", shouted=text.upper())


def load(request: StageRequest, /) -> CallPrefect:
    return CallPrefect("prefect.task", ObjectCallee("etl", "rows"), {"limit": request.context["shouted"]})
"""
TASKS = """
from prefect import task

@task
def rows(limit: str) -> dict:
    return {"rows": f"{limit} {limit}"}
"""
PIPELINE = """digraph custom {
  start [shape=Mdiamond]
  done [shape=Msquare]
  shout [type="acme.shout", acme.text="hello"]
  load [type="acme.load"]
  check [shape=parallelogram, tool_command="grep HELLO shout.txt"]
  start -> shout
  shout -> load [condition="context.shouted=HELLO"]
  load -> check [condition="context.rows=HELLO HELLO"]
  check -> done [condition="outcome=success"]
}
"""
PACKAGE_GRAPH = """digraph greeting {
  start [shape=Mdiamond]
  done [shape=Msquare]
  first [shape=parallelogram, tool_command=".kilroy/package/scripts/say.sh first"]
  second [shape=parallelogram, tool_command=".kilroy/package/scripts/say.sh second"]
  start -> first
  first -> second [condition="outcome=success"]
  second -> done [condition="outcome=success"]
}
"""
SAY = """#!/bin/sh
echo "$1" >> said.txt
[ "$1" = first ] || [ "$KILROY_INPUT_READY" = yes ]
"""


def kilroy(prefect: Prefect, *arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*KILROY, *arguments],
        cwd=cwd,
        env={**prefect.environment, "KILROY_RUNS_ROOT": str(cwd / "runs"), **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def facts(done: subprocess.CompletedProcess[str]) -> dict[str, str]:
    """The lines that a run prints at its end, wherever it prints them."""
    text = done.stdout + done.stderr
    return dict(line.split("=", 1) for line in text.splitlines() if line.split("=", 1)[0] in {"run_id", "logs_root"})


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A folder of installed packages that holds the distribution ``acme-nodes`` 3.1."""
    folder = tmp_path / "site"
    info = folder / "acme_nodes-3.1.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-nodes\nVersion: 3.1\n")
    (info / "entry_points.txt").write_text(ENTRY_POINTS)
    (folder / "acme_nodes.py").write_text(MODULE)
    (folder / "etl.py").write_text(TASKS)
    return folder


def test_an_installed_distribution_brings_a_node_type(prefect: Prefect, site: Path, tmp_path: Path) -> None:
    """It works in the run's folder and hands context on, or asks for a call of Prefect's; a broken one is refused by name."""
    path = {"PYTHONPATH": f"{site}:{prefect.environment.get('PYTHONPATH', '')}"}
    (tmp_path / "p.dot").write_text(PIPELINE)
    (tmp_path / "broken.dot").write_text(PIPELINE.replace("acme.shout", "acme.broken"))

    done = kilroy(prefect, "run", "p.dot", "--no-git", cwd=tmp_path, **path)
    assert done.returncode == 0, done.stderr
    run = Path(facts(done)["logs_root"])
    assert json.loads((run / "shout" / "status.json").read_text())["notes"] == "shouted"

    refused = kilroy(prefect, "run", "broken.dot", "--no-git", cwd=tmp_path, **path)
    assert refused.returncode == 1
    assert "broken.dot:4:10 error handler_loadable" in refused.stderr
    assert "of acme-nodes 3.1 cannot be loaded" in refused.stderr
    assert "nothing was started" in refused.stderr


def test_a_package_is_resumed_without_its_folder(prefect: Prefect, tmp_path: Path) -> None:
    """Scripts come from the run directory then, and the worktree has none of them in its commits."""
    package = tmp_path / "greeting"
    (package / "scripts").mkdir(parents=True)
    (package / "graph.dot").write_text(PACKAGE_GRAPH)
    (package / "scripts" / "say.sh").write_text(SAY)
    (package / "workflow.toml").write_text('outputs = ["said.txt"]\n[[inputs]]\nname = "ready"\ndefault = "no"\n')
    identity = ("-c", "user.name=Test", "-c", "user.email=test@localhost")
    project = tmp_path / "project"
    for arguments in (("init", "--quiet", str(project)), ("-C", str(project), "commit", "--quiet", "--allow-empty", "-mone")):
        subprocess.run(["git", *identity, *arguments], check=True)

    failed = kilroy(prefect, "run", "greeting", "--repo", "project", cwd=tmp_path)
    assert failed.returncode == 1, failed.stderr
    run = Path(facts(failed)["logs_root"])
    shutil.rmtree(package)
    shutil.rmtree(run / "worktree")

    done = kilroy(prefect, "resume", facts(failed)["run_id"], "--input", "ready=yes", cwd=tmp_path)

    assert done.returncode == 0, done.stderr
    assert (run / "outputs" / "said.txt").read_text() == "first\nsecond\nsecond\n"  # the failed visit is committed too
    branch = f"attractor/run/{run.name}"
    tree = subprocess.run(
        ["git", "-C", str(project), "ls-tree", "-r", "--name-only", branch], capture_output=True, text=True, check=True
    )
    assert "said.txt" in tree.stdout.split()
    assert ".kilroy" not in tree.stdout
