"""A plain installation, without the tested versions of ``constraints.txt``, works."""

from __future__ import annotations

import subprocess
import sys
import venv
from pathlib import Path

import pytest
from real_prefect import ROOT, child_environment

MINIMAL = "digraph min { start [shape=Mdiamond] done [shape=Msquare] start -> done }"


def fetched_already() -> dict[str, str]:
    """Pip's settings for using what this machine has fetched before; a home of the test's own would hide it."""
    told = subprocess.run([sys.executable, "-m", "pip", "cache", "dir"], capture_output=True, text=True, check=False)
    return {"PIP_CACHE_DIR": told.stdout.strip()} if told.returncode == 0 else {}


@pytest.mark.timeout(600)
def test_a_plain_installation_runs_a_pipeline(tmp_path: Path) -> None:
    """``pip install`` of the package, with today's versions of everything that it leaves open, gives a command that runs a
    pipeline. Prefect 3.8 leaves FastAPI and SQLAlchemy open and breaks on their newer versions; the package does not."""
    home = tmp_path / "home"
    home.mkdir()
    environment = child_environment(home, {})
    venv.create(tmp_path / "venv")
    binaries = tmp_path / "venv" / "bin"
    options = ("--quiet", "--disable-pip-version-check", "--no-compile")
    installed = subprocess.run(
        [sys.executable, "-m", "pip", "--python", binaries / "python", "install", *options, ROOT],
        env=environment | fetched_already(),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    if "Could not find a version" in installed.stderr or "No matching distribution" in installed.stderr:
        pytest.skip("no package registry is within reach")
    assert installed.returncode == 0, installed.stderr
    (tmp_path / "min.dot").write_text(MINIMAL, encoding="utf-8")

    try:
        run = subprocess.run(
            [binaries / "kilroy", "run", "min.dot", "--no-git"],
            env=environment,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
            timeout=240,
        )
    finally:
        subprocess.run([binaries / "kilroy", "server", "stop"], env=environment, capture_output=True, check=False)

    assert run.returncode == 0, run.stderr
    assert run.stdout.startswith("run_id=")
    listed = subprocess.run(
        [binaries / "python", "-c", "import fastapi, sqlalchemy; print(fastapi.__version__, sqlalchemy.__version__)"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    fastapi, sqlalchemy = (tuple(int(part) for part in version.split(".")[:2]) for version in listed.split())
    assert fastapi < (0, 151)
    assert sqlalchemy < (2, 1)
