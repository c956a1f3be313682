"""The ``.kilroy`` folder in the place of work: what tools and agents are told in files (Kilroy: ``.kilroy`` files)."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from kilroy_engine.graph.model import Node
from kilroy_engine.traversal.outcome import Json, Outcome
from kilroy_engine.traversal.state import RunState

_SHELL_SCRIPTS = frozenset({".sh", ".bash"})


@dataclass(frozen=True, slots=True)
class KilroyFolder:
    """``.kilroy/`` in ``work_dir``. It hides itself from git, so no commit and no ``git status`` ever holds it."""

    work_dir: Path

    @property
    def path(self) -> Path:
        return self.work_dir / ".kilroy"

    @property
    def data(self) -> Path:
        """A folder that stages may use to hand things on."""
        return self.path / "data"

    def prepare(self, inputs: Mapping[str, Json], package: Path | None = None) -> None:
        """At the start of a run: makes the folder, writes ``INPUT.md`` and unpacks the workflow package, if there is one.

        ``package`` may be a folder that does not exist. Scripts for a shell can be run afterwards (Kilroy).
        """
        self._make()
        self._write("INPUT.md", input_text(inputs))
        unpacked = self.path / "package"
        shutil.rmtree(unpacked, ignore_errors=True)  # in place, an earlier run may have left another one
        if package is None or not package.is_dir():
            return
        shutil.copytree(package, unpacked)
        for script in unpacked.rglob("*"):
            if script.suffix in _SHELL_SCRIPTS and script.is_file():
                script.chmod(0o755)

    def begin_stage(self, node: Node, state: RunState) -> None:
        """Before a visit: ``CONTEXT.md`` and ``TASK.md`` for this node, and no feedback from an earlier one."""
        self._write("CONTEXT.md", context_text(state, node))
        self._write("TASK.md", task_text(node))
        (self.path / "FEEDBACK.md").unlink(missing_ok=True)

    def write_feedback(self, node_id: str, *, attempt: int, reason: str, details: str = "") -> None:
        """After a failed attempt: why, for the next one."""
        self._write("FEEDBACK.md", feedback_text(node_id, attempt, reason, details))

    def _write(self, name: str, text: str) -> None:
        target = self.path / name
        try:
            target.write_text(text, encoding="utf-8")
        except FileNotFoundError:
            # A stage has cleaned the folder away.
            self._make()
            target.write_text(text, encoding="utf-8")

    def _make(self) -> None:
        self.data.mkdir(parents=True, exist_ok=True)
        ignore = self.path / ".gitignore"
        if not ignore.exists():
            ignore.write_text("*\n", encoding="utf-8")


def input_text(inputs: Mapping[str, Json]) -> str:
    """``INPUT.md``: the run's inputs, one section each, by name."""
    if not inputs:
        return "# Input\n\nThis run was started without inputs.\n"
    sections = (f"## {key}\n\n{_as_text(value)}\n" for key, value in sorted(inputs.items()))
    return "# Input\n\n" + "\n".join(sections)


def context_text(state: RunState, node: Node) -> str:
    """``CONTEXT.md``: the stages so far, each once with its latest outcome, and the node that is about to run."""
    lines = [_completed_line(node_id, state.outcomes.get(node_id)) for node_id in dict.fromkeys(state.completed)]
    completed = "\n".join(lines) or "None yet."
    return f"# Run Context\n\n## Completed Nodes\n\n{completed}\n\n## Current Node\n\n**{node.id}**: {node.label}\n"


def task_text(node: Node) -> str:
    """``TASK.md``: what the node is asked to do."""
    return f"# Task: {node.id}\n\n{node.prompt.strip() or node.label}\n"


def feedback_text(node_id: str, attempt: int, reason: str, details: str) -> str:
    """``FEEDBACK.md``: why the attempt failed."""
    text = f"# Feedback: {node_id} (attempt {attempt})\n\n## Failure Reason\n\n{reason}\n"
    return f"{text}\n## Details\n\n{details}\n" if details else text


def _completed_line(node_id: str, outcome: Outcome | None) -> str:
    if outcome is None:
        return f"- **{node_id}**"
    reason = f" — {outcome.failure_reason}" if outcome.failure_reason else ""
    return f"- **{node_id}**: {outcome.status}{reason}"


def _as_text(value: Json) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
