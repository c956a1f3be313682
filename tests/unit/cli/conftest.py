"""The command as its users write it, and run directories for it to look at."""

from __future__ import annotations

import os
import subprocess
import sys
from io import BytesIO, TextIOWrapper
from pathlib import Path
from typing import Any

import pytest
from run_writer import Kilroy, RunWriter, Writer, clean_environment

from kilroy_engine.cli.main import main


@pytest.fixture
def kilroy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Kilroy:
    """Calls ``kilroy`` in this process, with the environment, the folder and the streams that a process of its own would have.

    The interpreter and what it imports would be nearly all of the time.
    """

    def call(*arguments: str, stdin: bytes | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
        streams = {name: TextIOWrapper(BytesIO(), encoding="utf-8", write_through=True) for name in ("stdout", "stderr")}
        with monkeypatch.context() as patch:
            for name in os.environ:
                patch.delenv(name)
            for name, value in (clean_environment(tmp_path) | environment).items():
                patch.setenv(name, value)
            patch.chdir(tmp_path)
            patch.setattr(sys, "stdin", TextIOWrapper(BytesIO(stdin or b""), encoding="utf-8"))
            for name, stream in streams.items():
                patch.setattr(sys, name, stream)
            code = main(arguments)
        written = [stream.buffer.getvalue().decode(errors="replace") for stream in streams.values()]  # type: ignore[attr-defined]
        return subprocess.CompletedProcess(arguments, code, *written)

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
