"""Many runs by one process, one after the other: a Python process that has imported Prefect costs seconds, a run much less.

As a program it reads requests as JSON lines and writes an answer per line. ``answers`` is the other side of it.
"""

# ruff: noqa: PLC0415 - the process that only asks for runs does not import Prefect
from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Request:
    """A run to carry out; ``graph``, ``inputs``, ``repo`` and ``options`` are the flow's parameters."""

    name: str
    graph: str
    inputs: Mapping[str, str] = field(default_factory=dict[str, str])
    repo: str = ""
    options: Mapping[str, Any] = field(default_factory=dict[str, Any])


@dataclass(frozen=True, kw_only=True)
class Answer:
    """How a run ended. ``refusal`` says why it did not start, ``rules`` which rules refused it; ``logs_root`` is empty then."""

    name: str
    exit_code: int
    logs_root: str = ""
    refusal: str = ""
    rules: Sequence[str] = ()
    took_s: float = 0.0


def answers(requests: Sequence[Request], *, environment: Mapping[str, str], folder: Path, within_s: float) -> list[Answer]:
    """Carries out all requests in one process that works in ``folder``. What it prints besides goes to our standard error."""
    done = subprocess.run(
        [sys.executable, __file__],
        input="\n".join(json.dumps(asdict(request)) for request in requests),
        stdout=subprocess.PIPE,
        env=dict(environment),
        cwd=folder,
        text=True,
        timeout=within_s,
        check=True,
    )
    return [Answer(**json.loads(line)) for line in done.stdout.splitlines()]


def _answer(request: Request) -> Answer:
    from kilroy_engine.cli.errors import ExitCode, exit_code_of
    from kilroy_engine.errors import InvalidPipeline, KilroyError
    from kilroy_engine.execution.preparing.preparation import RunParameters, prepare_run
    from kilroy_engine.graph.checks.validation import errors_of
    from kilroy_engine.orchestration.flows.launch import Started, launch
    from kilroy_engine.settings.options import Options

    runs: list[Started] = []
    began = time.monotonic()
    parameters = RunParameters(request.graph, request.inputs, request.repo, Options(**request.options))
    try:
        prepare_run(parameters, environ=os.environ)  # as the command does, before there is a flow run
        final = launch(parameters, on_started=runs.append)
    except InvalidPipeline as refusal:
        rules = sorted({error.rule for error in errors_of(refusal.diagnostics)})
        return Answer(name=request.name, exit_code=ExitCode.FAIL, refusal=str(refusal), rules=rules)
    except KilroyError as refusal:
        return Answer(name=request.name, exit_code=ExitCode.FAIL, refusal=str(refusal))
    return Answer(
        name=request.name,
        exit_code=exit_code_of(final.status),
        logs_root=str(runs[0].run.path),
        took_s=time.monotonic() - began,
    )


def _main() -> None:
    """An exception that is not the engine's own ends the process, and with it the test that asked."""
    for line in sys.stdin:
        print(json.dumps(asdict(_answer(Request(**json.loads(line))))), flush=True)


if __name__ == "__main__":
    _main()
