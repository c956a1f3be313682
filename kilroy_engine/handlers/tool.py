"""Tool nodes: run a shell command and turn its exit status and output into an outcome."""

from __future__ import annotations

import re
from pathlib import Path

from kilroy_engine.handlers.base import StageRequest
from kilroy_engine.processes.command import Command, CommandEnd, Ending, run_command
from kilroy_engine.processes.go_text import duration_text, exit_text
from kilroy_engine.rundir.files.atomic import write_json
from kilroy_engine.rundir.files.regular import read_part
from kilroy_engine.traversal.failure import FailureClass, output_digest
from kilroy_engine.traversal.outcome import Json, Outcome, Status, failure, success

DEFAULT_TIMEOUT_S = 600.0
OUTPUT_LIMIT = 8000
"""Characters of output that go into the context. The log files hold the whole output."""

_SHELL = "bash"
_MISSING_PROGRAM = re.compile(r"not found|no such file", re.IGNORECASE)
_FIRST_WORD = re.compile(r"""\s*(?:(?:ba)?sh\s+-c\s+)?["']?\s*(?P<word>[^\s"';|&]+)""")


def run_tool(request: StageRequest, /) -> Outcome:
    """Runs the node's ``tool_command`` with bash (Spec 4.10, Kilroy: tool node).

    The exit status gives the outcome, unless the command writes a ``status.json`` into ``$KILROY_STAGE_LOGS_DIR``. Context
    keys: ``tool.output`` is standard output followed by standard error. ``tool.stdout`` and ``tool_stdout`` are standard output
    alone; pipelines of other engines read ``tool_stdout``. ``tool.exit_status`` is set by a failure.
    """
    command = request.node.tool_command
    if not command.strip():
        return failure("no tool_command specified")
    if request.simulate:
        return success(f"simulated: tool_command was not run: {command.strip()}")
    timeout_s = _timeout_s(request)
    _write_invocation(request, command, timeout_s)
    try:
        end = run_command(
            Command((_SHELL, "-c", command), request.work_dir, request.environment, request.stage_dir, timeout_s),
            cancellation=request.cancellation,
            output=request.output,
        )
    except (OSError, ValueError) as error:
        return failure(_cannot_start(error, request.work_dir))
    _write_timing(request.stage_dir, end)
    return _outcome_of(request, command, end, timeout_s)


def _timeout_s(request: StageRequest) -> float:
    limit = request.timeout_s if request.timeout_s is not None else request.node.timeout_s
    return limit if limit and limit > 0 else DEFAULT_TIMEOUT_S


def _outcome_of(request: StageRequest, command: str, end: CommandEnd, timeout_s: float) -> Outcome:
    match end.ending:
        case Ending.CANCELED:
            return failure(request.cancellation.reason, failure_class=FailureClass.CANCELED)
        case Ending.TIMED_OUT | Ending.IDLE:
            reason = f"tool_command timed out after {duration_text(timeout_s)}"
            return failure(reason).with_updates(timed_out=True, meta={"timeout_seconds": int(timeout_s)})
        case Ending.EXITED:
            pass
    stdout, stderr = (_head_of(request.stage_dir / name) for name in ("stdout.log", "stderr.log"))
    output = (stdout + stderr)[:OUTPUT_LIMIT]
    updates: dict[str, Json] = {"tool.output": output, "tool.stdout": stdout, "tool_stdout": stdout.strip()}
    if end.exit_code == 0:
        return Outcome(Status.SUCCESS, context_updates=updates, notes="tool completed")
    reason = exit_text(end.exit_code)
    updates["tool.exit_status"] = reason
    hint = _hint(command, stderr, request.work_dir)
    reason = f"{reason}\n  hint: {hint}" if hint else reason
    digest = _digest(request.stage_dir) if len(output) >= OUTPUT_LIMIT else ""
    return Outcome(Status.FAIL, context_updates=updates, failure_reason=reason, output_digest=digest)


def _digest(stage_dir: Path) -> str:
    """A digest of the end of the output. It distinguishes failures whose long outputs begin alike."""
    return output_digest(_tail_of(stage_dir / "stdout.log") + _tail_of(stage_dir / "stderr.log"))


def _tail_of(log: Path) -> str:
    return read_part(log, OUTPUT_LIMIT, end=True).decode(errors="replace")


def _head_of(log: Path) -> str:
    # A character takes at most four bytes, so these bytes hold enough characters.
    return read_part(log, 4 * OUTPUT_LIMIT).decode(errors="replace")[:OUTPUT_LIMIT]


def _hint(command: str, stderr: str, work_dir: Path) -> str:
    """A hint for a program or file that was not found. The worktree of a git run holds committed files only."""
    if not _MISSING_PROGRAM.search(stderr):
        return ""
    match = _FIRST_WORD.match(command)
    word = match["word"] if match else ""
    if "/" not in word:
        return (
            "a run works in a copy of what is committed to git; commit the files that the command needs, or install the program"
        )
    if not (work_dir / word).exists():
        return f"{word} does not exist there; check the path, and commit the file if git does not have it yet"
    return ""


def _cannot_start(error: OSError | ValueError, work_dir: Path) -> str:
    if not work_dir.is_dir():
        return f"cannot run tool_command: its work folder {work_dir} is gone"
    if isinstance(error, FileNotFoundError) and error.filename == _SHELL:
        return f"cannot run tool_command: {_SHELL} is {error.strerror}"
    return f"cannot run tool_command: {error}"


def _write_invocation(request: StageRequest, command: str, timeout_s: float) -> None:
    record: dict[str, Json] = {
        "argv": [_SHELL, "-c", command],
        "command": command,
        "env_mode": "base",
        "timeout_ms": round(timeout_s * 1000),
        "tool": _SHELL,
        "working_dir": str(request.work_dir),
    }
    write_json(request.stage_dir / "tool_invocation.json", record, durable=False)


def _write_timing(stage_dir: Path, end: CommandEnd) -> None:
    record: dict[str, Json] = {
        "duration_ms": round(end.duration_s * 1000),
        "exit_code": end.exit_code,
        "timed_out": end.ending is Ending.TIMED_OUT,
    }
    write_json(stage_dir / "tool_timing.json", record, durable=False)
