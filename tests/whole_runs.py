"""Whole runs by the in-process orchestrator, told in short statements; what such a run has left on disk."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from in_process import InProcess, run_pipeline
from polling import eventually

from kilroy_engine.execution.preparing.preparation import RunParameters
from kilroy_engine.rundir.files.checkpoint import load_checkpoint
from kilroy_engine.rundir.files.layout import RunDirectory
from kilroy_engine.rundir.files.records import FinalOutcome
from kilroy_engine.rundir.stream.progress import read_events
from kilroy_engine.settings.options import Options
from kilroy_engine.traversal.outcome import Outcome

SHELL = "start [shape=Mdiamond] done [shape=Msquare] node [shape=parallelogram]"
SLEEPS = "echo at work; sleep 300 & wait $!"
"""A command that is at work until it is ended."""


@dataclass(frozen=True)
class Ran:
    """A run that is over, or that ``at_work`` has at work."""

    run: RunDirectory
    final: FinalOutcome
    orchestrator: InProcess

    @property
    def end(self) -> tuple[str, str]:
        """Final status and reason."""
        return self.final.status, self.final.failure_reason

    @property
    def completed(self) -> tuple[str, ...]:
        return load_checkpoint(self.run).state.completed

    @property
    def context(self) -> Mapping[str, object]:
        return load_checkpoint(self.run).state.context

    @property
    def outcomes(self) -> Mapping[str, Outcome]:
        """Those of the nodes that were visited, by their ids."""
        return load_checkpoint(self.run).state.outcomes

    def file(self, name: str) -> str:
        return (self.run.path / name).read_text(encoding="utf-8")

    def events(self, *names: str, within: str = "") -> list[dict[str, Any]]:
        """Events of these names, or all, in the stream of the run or of a directory ``within``."""
        found = list(read_events(RunDirectory(self.run.path / within).progress))
        return [event for event in found if not names or event["event"] in names]


@dataclass(frozen=True)
class Place:
    """A folder for pipelines, with the run directory ``run`` beside them. ``repo`` is empty for runs in a plain folder."""

    folder: Path
    repo: Path | None = None
    options: Mapping[str, Any] = field(default_factory=dict[str, Any])

    @property
    def run(self) -> RunDirectory:
        return RunDirectory(self.folder / "run")

    def write(self, name: str, statements: str) -> Path:
        """Writes a pipeline with start, exit, and tools as the default kind of node."""
        file = self.folder / name
        file.write_text(f"digraph g {{ {SHELL} {statements} }}", encoding="utf-8")
        return file

    def runs(
        self, statements: str, *, orchestrator: InProcess | None = None, inputs: Mapping[str, str] | None = None, **options: Any
    ) -> Ran:
        """Runs the pipeline to its end."""
        file = self.write("pipeline.dot", statements)
        return self.carry_out(str(file), orchestrator, inputs or {}, logs_root=str(self.run.path), **options)

    def resumes(self, graph: str = "", *, orchestrator: InProcess | None = None, **options: Any) -> Ran:
        """Another start of the run."""
        return self.carry_out(graph, orchestrator, {}, resume_from=str(self.run.path), **options)

    def carry_out(self, graph: str, orchestrator: InProcess | None, inputs: Mapping[str, str], **options: Any) -> Ran:
        carrying = orchestrator or InProcess()
        new = {} if "resume_from" in options else {"workspace": "git" if self.repo else "plain"}
        repo = str(self.repo) if self.repo and new else ""
        parameters = RunParameters(graph, inputs, repo, Options(**{**new, **self.options, **options}))
        return Ran(self.run, run_pipeline(parameters, carrying, base=self.folder), carrying)

    def git(self, *arguments: str) -> str:
        """What git says in the repository."""
        done = subprocess.run(["git", *arguments], cwd=self.repo, capture_output=True, text=True, check=True)
        return done.stdout

    def meanwhile(self, condition: Callable[[], object], act: Callable[[], object]) -> threading.Thread:
        """Does something as soon as a condition holds, in a thread that is at work already."""

        def wait() -> None:
            eventually(condition, within_s=60)
            act()

        thread = threading.Thread(target=wait, daemon=True)
        thread.start()
        return thread

    def says(self, node_id: str, within: str = "") -> Callable[[], bool]:
        """Whether the tool of a node says that it is at work."""
        log = self.run.path / within / node_id / "stdout.log"
        return lambda: log.exists() and "at work" in log.read_text(encoding="utf-8")
