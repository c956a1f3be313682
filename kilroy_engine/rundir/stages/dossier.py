"""``failure_dossier.json``: the facts about the latest failed stage that help a person or an agent to mend the failure."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from kilroy_engine.errors import RunDirectoryError
from kilroy_engine.events.encoding import from_json
from kilroy_engine.events.times import now, rfc3339
from kilroy_engine.rundir.files.atomic import write_json
from kilroy_engine.rundir.files.inside import make_folders
from kilroy_engine.rundir.files.layout import RunDirectory
from kilroy_engine.rundir.files.regular import read_file, read_part
from kilroy_engine.traversal.outcome import Outcome

_STDERR_CHARACTERS = 4000
_REASON_CHARACTERS = 120
_QUOTED = r"['\"‘’`](?P<quoted>[^'\"‘’`\n]+)['\"‘’`]"
_MISSING_PATHS = tuple(
    re.compile(pattern, re.IGNORECASE | re.MULTILINE)
    for pattern in (
        r"\bcd: (?P<path>[^\n:]+): No such file or directory",
        r"\btest: (?P<path>[^\n:]+): No such file or directory",
        rf"\bcannot (?:stat|open) {_QUOTED}",
        r"\bopen (?P<path>[^\n:'\"‘]+): no such file or directory",
    )
)
_MISSING_EXECUTABLE = re.compile(r"(?:^|[\s:])(?P<name>[^\s:]+): (?:command )?not found\s*$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class ToolFacts:
    """The command that a failed stage ran: command line, folder, exit code and the beginning of its error output."""

    command: str = ""
    working_dir: str = ""
    exit_code: int = 0
    stderr_excerpt: str = ""


@dataclass(frozen=True, slots=True)
class FailedStage:
    """A stage that failed. ``output`` is the stage's context value ``tool.output``, if any."""

    node_id: str
    handler_type: str
    outcome: Outcome
    failure_class: str
    attempts_used: int
    max_attempts: int
    stage_dir: Path
    output: str = ""
    tool: ToolFacts = ToolFacts()


def read_tool_facts(stage_dir: Path) -> ToolFacts:
    """Reads the stage's ``tool_invocation.json``, ``tool_timing.json`` and ``stderr.log``. Facts of a missing file stay
    blank.
    """
    invocation, timing = _read_map(stage_dir / "tool_invocation.json"), _read_map(stage_dir / "tool_timing.json")
    exit_code = timing.get("exit_code")
    return ToolFacts(
        command=str(invocation.get("command", "")),
        working_dir=str(invocation.get("working_dir", "")),
        exit_code=exit_code if isinstance(exit_code, int) else 0,
        stderr_excerpt=_read_start(stage_dir / "stderr.log"),
    )


def build_dossier(
    failed: FailedStage, *, work_dir: Path, snapshot_dir: Path, generated_at: str, exists: Callable[[Path], bool]
) -> dict[str, object]:
    """The dossier's content. ``exists`` tells whether a path in ``work_dir`` or in ``snapshot_dir`` (the snapshot of the
    inputs) exists.
    """
    tool, reason = failed.tool, failed.outcome.failure_reason
    text = "\n".join((reason, tool.stderr_excerpt, tool.command, failed.output))
    paths = [
        _missing_path(name, work_dir=work_dir, snapshot_dir=snapshot_dir, exists=exists) for name in sorted(_paths_in(text))
    ]
    executables = sorted({match["name"] for match in _MISSING_EXECUTABLE.finditer(text)})
    dossier: dict[str, object] = {
        "version": 1,
        "generated_at": generated_at,
        "failed_node_id": failed.node_id,
        "handler_type": failed.handler_type,
        "status": str(failed.outcome.status),
        "failure_class": str(failed.failure_class),
        "failure_reason": reason,
        "attempts_used": failed.attempts_used,
        "max_attempts": failed.max_attempts,
        "stage_dir": str(failed.stage_dir),
    }
    if paths:
        dossier["missing_paths"] = paths
    if executables:
        dossier["missing_executables"] = executables
    if tool.command or tool.stderr_excerpt or tool.exit_code:
        dossier["tool"] = _tool_entry(tool)
    dossier["summary"] = _summary(failed, missing_paths=len(paths), missing_tools=len(executables))
    return dossier


@dataclass(frozen=True, slots=True)
class WrittenDossier:
    """Where the dossier is. ``path`` is relative to the work folder, or absolute in the run directory where the work folder is
    gone or could not be written. ``summary`` is one line.
    """

    path: str
    summary: str


def write_dossier(run: RunDirectory, failed: FailedStage, *, run_id: str, work_dir: Path | None) -> WrittenDossier:
    """Writes the dossier to the run directory and to ``.ai/runs/<run id>/`` in the work folder."""
    dossier = build_dossier(
        failed,
        work_dir=work_dir or run.worktree,
        snapshot_dir=run.path / "input_snapshot" / "files",
        generated_at=rfc3339(now()),
        exists=os.path.exists,
    )
    summary = str(dossier["summary"])
    write_json(run.dossier, dossier, durable=False)
    if work_dir is None or not work_dir.is_dir():
        return WrittenDossier(str(run.dossier), summary)
    relative = Path(".ai", "runs", run_id, run.dossier.name)
    if not make_folders(work_dir, relative.parent):
        return WrittenDossier(str(run.dossier), summary)  # a link there may lead anywhere
    write_json(work_dir / relative, dossier, durable=False)
    return WrittenDossier(relative.as_posix(), summary)


def _paths_in(text: str) -> set[str]:
    found: set[str] = set()
    for pattern in _MISSING_PATHS:
        for match in pattern.finditer(text):
            groups = match.groupdict()
            found.add((groups.get("path") or groups.get("quoted") or "").strip().strip("'\""))
    return found - {""}


def _missing_path(name: str, *, work_dir: Path, snapshot_dir: Path, exists: Callable[[Path], bool]) -> dict[str, object]:
    absolute = work_dir / name
    inside = absolute.absolute().is_relative_to(work_dir.absolute()) and ".." not in Path(name).parts
    relative = absolute.relative_to(work_dir) if inside else None
    return {
        "path": name,
        "absolute_path": str(absolute),
        "inside_repo": inside,
        "exists_now": exists(absolute),
        "exists_in_input_snapshot": relative is not None and exists(snapshot_dir / relative),
    }


def _tool_entry(tool: ToolFacts) -> dict[str, object]:
    entry: dict[str, object] = {}
    if tool.command:
        entry["command"] = tool.command
    if tool.working_dir:
        entry["working_dir"] = tool.working_dir
    entry["exit_code"] = tool.exit_code
    if tool.stderr_excerpt:
        entry["stderr_excerpt"] = tool.stderr_excerpt[:_STDERR_CHARACTERS]
    return entry


def _summary(failed: FailedStage, *, missing_paths: int, missing_tools: int) -> str:
    parts: Iterable[str] = (
        f"node={failed.node_id}",
        f"class={failed.failure_class}",
        f"attempt={failed.attempts_used}/{failed.max_attempts}",
        f"missing_paths={missing_paths}" if missing_paths else "",
        f"missing_tools={missing_tools}" if missing_tools else "",
        f"reason={failed.outcome.failure_reason[:_REASON_CHARACTERS]}" if failed.outcome.failure_reason else "",
    )
    return "; ".join(part for part in parts if part)


def _read_map(path: Path) -> dict[str, object]:
    try:
        value = from_json(read_file(path) or b"")
    except (RunDirectoryError, ValueError):
        return {}  # a missing fact must not fail the run
    return cast("dict[str, object]", value) if isinstance(value, dict) else {}


def _read_start(path: Path) -> str:
    return read_part(path, 4 * _STDERR_CHARACTERS).decode("utf-8", "replace")[:_STDERR_CHARACTERS]
