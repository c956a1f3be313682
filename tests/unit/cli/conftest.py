"""The command as its users call it, and run directories for it to look at."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from run_writer import Kilroy, RunWriter, Writer, clean_environment


@pytest.fixture
def kilroy(tmp_path: Path) -> Kilroy:
    """Calls ``kilroy`` in a process of its own, with a state folder of its own."""

    def call(*arguments: str, stdin: bytes | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, "-m", "kilroy_engine.cli.main", *arguments],
            input=stdin if stdin is not None else b"",
            capture_output=True,
            cwd=tmp_path,
            env=clean_environment(tmp_path) | environment,
            timeout=60,
            check=False,
        )
        return subprocess.CompletedProcess(
            done.args, done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace")
        )

    return call


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """The runs root of the ``kilroy`` fixture."""
    return tmp_path / "state" / "kilroy" / "attractor" / "runs"


@pytest.fixture
def writer(runs: Path) -> Writer:
    """Makes writers of run directories below the runs root."""

    def make(run_id: str, **facts: Any) -> RunWriter:
        return RunWriter(runs, run_id, **facts)

    return make
