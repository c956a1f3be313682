"""The ``.kilroy`` folder in the place of work: files that tell tools and agents about the run (Kilroy: ``.kilroy`` files)."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from kilroy_engine.errors import WorkspaceError
from kilroy_engine.graph.model import Node
from kilroy_engine.rundir.files.atomic import write_text
from kilroy_engine.rundir.files.copies import copy_tree
from kilroy_engine.rundir.files.regular import is_real_folder, kind_at, make_folder, remove, set_aside
from kilroy_engine.traversal.outcome import Json, Outcome
from kilroy_engine.traversal.state import RunState
from kilroy_engine.workspace.base import KILROY_FOLDER

_SHELL_SCRIPTS = frozenset({".sh", ".bash"})


def _no_warning(message: str) -> None:
    del message


@dataclass(frozen=True, slots=True)
class KilroyFolder:
    """The folder ``.kilroy/`` in ``work_dir``. Its ``.gitignore`` hides the folder from ``git status`` and from every commit.

    Nothing is written through a link. A link in the place of the folder or of a file in it is removed; the link's target
    stays. Anything else in the way is renamed. ``warn`` gets a sentence about either.
    """

    work_dir: Path
    warn: Callable[[str], None] = _no_warning

    @property
    def path(self) -> Path:
        return self.work_dir / KILROY_FOLDER

    @property
    def data(self) -> Path:
        """A folder in which stages may leave files for later stages."""
        return self.path / "data"

    def prepare(self, inputs: Mapping[str, Json], package: Path | None = None) -> None:
        """Makes the folder, writes ``INPUT.md`` and unpacks the workflow package, if there is one. Called at the start of a
        run.

        ``package`` may be a folder that does not exist. Shell scripts of the package are made executable (Kilroy).

        Raises:
            RunDirectoryError, OSError: The disk refused.
        """
        self._make()
        self._write("INPUT.md", input_text(inputs))
        unpacked = self.path / "package"
        self._clear_place(unpacked, is_real_folder)
        shutil.rmtree(unpacked, ignore_errors=True)  # an earlier run in the user's folder may have left another package
        if package is None or not is_real_folder(package):
            return
        copy_tree(package, unpacked)
        for folder, _, names in os.walk(unpacked):
            for script in (Path(folder, name) for name in names):
                if script.suffix in _SHELL_SCRIPTS and not script.is_symlink():
                    script.chmod(0o755)

    def begin_stage(self, node: Node, state: RunState) -> None:
        """Writes ``CONTEXT.md`` and ``TASK.md`` for the node and removes the last stage's feedback. Called before a visit."""
        self._write("CONTEXT.md", context_text(state, node))
        self._write("TASK.md", task_text(node))
        remove(self.path / "FEEDBACK.md")

    def write_feedback(self, node_id: str, *, attempt: int, reason: str, details: str = "") -> None:
        """Writes why an attempt failed. Called when another attempt follows."""
        self._write("FEEDBACK.md", feedback_text(node_id, attempt, reason, details))

    def _write(self, name: str, text: str) -> None:
        if not is_real_folder(self.path):
            self._make()  # a stage has removed the folder, or a checkout has put a link there
        self._clear_place(self.path / name, _is_plain)
        write_text(self.path / name, text)

    def _make(self) -> None:
        for folder in (self.path, self.data):
            self._clear_place(folder, is_real_folder)
            make_folder(folder)
        ignore = self.path / ".gitignore"
        self._clear_place(ignore, _is_plain)
        if not ignore.exists():
            write_text(ignore, "*\n")

    def _clear_place(self, path: Path, fits: Callable[[Path], bool]) -> None:
        if not os.path.lexists(path) or fits(path):
            return
        what = kind_at(path) or "a file"
        if path.is_symlink():
            path.unlink()
            done = "the link was removed, what it leads to is as it was"
        else:
            done = f"it is called {set_aside(path).name} now"
        self.warn(f"{path} was {what}, where the engine writes for the stages: {done}")


def require_usable(work_dir: Path) -> None:
    """Checks that a folder of the user's has nothing in the place of ``.kilroy`` that the engine would have to move.

    Raises:
        WorkspaceError: Names the file that is in the way.
    """
    folder = KilroyFolder(work_dir).path
    for path, fits in ((folder, is_real_folder), *((folder / name, fits) for name, fits in _ENTRIES.items())):
        if os.path.lexists(path) and not fits(path):
            raise WorkspaceError(
                f"{path} is {kind_at(path) or 'a file'}, and a run in {work_dir} writes there for its stages; "
                "remove it, or name another work folder"
            )


def _is_plain(path: Path) -> bool:
    return not kind_at(path)


_ENTRIES: Mapping[str, Callable[[Path], bool]] = {
    "data": is_real_folder,
    "package": is_real_folder,
    ".gitignore": _is_plain,
    "INPUT.md": _is_plain,
    "CONTEXT.md": _is_plain,
    "TASK.md": _is_plain,
    "FEEDBACK.md": _is_plain,
}


def input_text(inputs: Mapping[str, Json]) -> str:
    """``INPUT.md``: the run's inputs, one section each, sorted by name."""
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
    """``TASK.md``: the node's prompt, or its label."""
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
