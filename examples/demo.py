"""Runs the example pipeline on a copy of the example project: ``make demo``.

The copy is a fresh git repository below ``.demo/``, where the run directory and the local server's files go as well; nothing
outside this checkout is written.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SCRATCH = ROOT / ".demo"
KILROY = Path(sys.executable).with_name("kilroy")


def main() -> int:
    """Copies the project, runs the pipeline, shows the path taken and the last event. Returns the run's exit code."""
    code, run = run_pipeline("build-test.dot", "--repo", str(new_project("textstats")), "--label", "example=demo")
    if run is None:
        return code or 1
    print("\nThe last line of progress.ndjson:")
    print((run / "progress.ndjson").read_text(encoding="utf-8").splitlines()[-1])
    say_how_to_stop()
    return code


def new_project(name: str) -> Path:
    """A repository of its own with a copy of the example project."""
    project = SCRATCH / name
    shutil.rmtree(project, ignore_errors=True)
    shutil.copytree(ROOT / "examples" / "textstats", project)
    git("init", "--quiet", "--initial-branch=main", cwd=project)
    git("add", "--all", cwd=project)
    git("commit", "--quiet", "--message=A small project with a bug", cwd=project)
    return project


def run_pipeline(pipeline: str, *options: str) -> tuple[int, Path | None]:
    """Runs one of the example pipelines and shows the path taken. The exit code and the run directory; None for no run."""
    environment = {**os.environ, "XDG_STATE_HOME": str(SCRATCH / "state")}
    run = subprocess.run(
        [KILROY, "run", ROOT / "flows" / "pipelines" / pipeline, *options],
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
        check=False,
    )
    print(run.stdout, end="", flush=True)
    facts = dict(line.split("=", 1) for line in run.stdout.splitlines() if "=" in line)
    if "logs_root" not in facts:
        return run.returncode, None
    print("\nThe path taken:", flush=True)
    subprocess.run([KILROY, "runs", "show", facts["logs_root"], "--path"], env=environment, check=True)
    return run.returncode, Path(facts["logs_root"])


def say_how_to_stop() -> None:
    """Names the command that ends the demo's server."""
    print("\nThe Prefect server of the demo stays for an idle hour. To stop it now:")
    print(f"  XDG_STATE_HOME={SCRATCH / 'state'} {KILROY} server stop")


def git(*arguments: str, cwd: Path) -> None:
    """Runs git with an identity of its own, so that it works on a machine that has none."""
    identity = ("-c", "user.name=Demo", "-c", "user.email=demo@localhost")
    subprocess.run(["git", *identity, *arguments], cwd=cwd, check=True)


if __name__ == "__main__":
    sys.exit(main())
