"""Tool nodes against real bash; expected texts are Kilroy's, where a recorded run has them."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from kilroy_engine.errors import StopKind
from kilroy_engine.handlers.base import StageRequest
from kilroy_engine.handlers.tool import run_tool
from kilroy_engine.processes.stage_status import with_stage_status
from kilroy_engine.rundir.stages.stage_files import encode_status, read_status
from kilroy_engine.settings.table import RunSettings
from kilroy_engine.stopping import Cancellation
from kilroy_engine.traversal.failure import FailureClass, signature
from kilroy_engine.traversal.outcome import Outcome

Requests = Callable[..., StageRequest]


def tool(request_for: Requests, command: str, attributes: str = "", **changes: object) -> StageRequest:
    """A tool node ``a`` with this command."""
    escaped = command.replace("\\", "\\\\").replace('"', '\\"')
    return request_for(f'a [shape=parallelogram, tool_command="{escaped}" {attributes}]', **changes)


def test_a_success_says_so_and_hands_on_the_output(request_for: Requests) -> None:
    """Kilroy: notes ``tool completed``; ``tool.output`` is standard output, then standard error. ``tool.stdout`` is what the
    specification calls the output; ``tool_stdout`` is the name that 135 conditions of real pipelines read, trimmed."""
    outcome = run_tool(tool(request_for, "echo err >&2; echo out"))

    assert (outcome.status, outcome.notes) == ("success", "tool completed")
    assert outcome.context_updates == {"tool.output": "out\nerr\n", "tool.stdout": "out\n", "tool_stdout": "out"}


def test_a_failure_carries_gos_text_and_the_output(request_for: Requests) -> None:
    """Recorded run ``02``: ``exit status 3``; the status stays in the context."""
    outcome = run_tool(tool(request_for, "echo out; exit 3"))

    assert (outcome.status, outcome.failure_reason) == ("fail", "exit status 3")
    assert outcome.context_updates == {
        "tool.output": "out\n",
        "tool.stdout": "out\n",
        "tool_stdout": "out",
        "tool.exit_status": "exit status 3",
    }


@pytest.mark.parametrize(
    ("signal", "text"), [("KILL", "signal: killed"), ("TERM", "signal: terminated"), ("SEGV", "signal: segmentation fault")]
)
def test_a_signal_is_named_as_go_names_it(request_for: Requests, signal: str, text: str) -> None:
    """Readers of Kilroy's runs look for these texts."""
    assert run_tool(tool(request_for, f"kill -{signal} $$")).failure_reason == text


def test_a_timeout_has_kilroys_reason(request_for: Requests) -> None:
    """Recorded run ``11a``: the reason, and no context updates (Kilroy); ``meta`` marks the timeout."""
    request = tool(request_for, "echo begin; sleep 64.25; echo end", timeout_s=1.0)
    outcome = run_tool(request)

    assert (outcome.status, outcome.failure_reason) == ("fail", "tool_command timed out after 1s")
    assert outcome.context_updates == {}
    assert encode_status(outcome)["meta"] == {"timeout": True, "timeout_seconds": 1}
    assert json.loads((request.stage_dir / "tool_timing.json").read_text())["timed_out"] is True


def test_the_nodes_own_timeout_holds_where_the_request_has_none(request_for: Requests) -> None:
    """Written with a unit, read with its unit (Kilroy reads ``250ms`` as 250 s)."""
    outcome = run_tool(tool(request_for, "sleep 64.375", ", timeout=250ms"))

    assert outcome.failure_reason == "tool_command timed out after 250ms"


def test_without_any_timeout_the_limit_is_ten_minutes(request_for: Requests) -> None:
    """Kilroy's default, on record in ``tool_invocation.json``."""
    request = tool(request_for, "true")
    run_tool(request)

    assert json.loads((request.stage_dir / "tool_invocation.json").read_text())["timeout_ms"] == 600_000


def test_the_invocation_and_the_timing_are_on_record(request_for: Requests) -> None:
    """Kilroy: stage directory files, with exactly these keys."""
    request = tool(request_for, "exit 4")
    run_tool(request)
    invocation = json.loads((request.stage_dir / "tool_invocation.json").read_text())
    timing = json.loads((request.stage_dir / "tool_timing.json").read_text())

    assert invocation == {
        "argv": ["bash", "-c", "exit 4"],
        "command": "exit 4",
        "env_mode": "base",
        "timeout_ms": 600_000,
        "tool": "bash",
        "working_dir": str(request.work_dir),
    }
    assert timing.keys() == {"duration_ms", "exit_code", "timed_out"}
    assert (timing["exit_code"], timing["timed_out"]) == (4, False)


def test_a_cancellation_is_a_failure_of_its_own_class(request_for: Requests) -> None:
    """The class keeps the failure from being retried."""
    cancellation = Cancellation()
    threading.Timer(0.2, cancellation.request, (StopKind.PERSON, "by kilroy stop")).start()
    outcome = run_tool(tool(request_for, "sleep 64.5", cancellation=cancellation))

    assert (outcome.status, outcome.failure_reason) == ("fail", "canceled: by kilroy stop")
    assert outcome.failure_class == FailureClass.CANCELED


def test_the_command_runs_in_the_work_folder_with_the_stages_environment(request_for: Requests) -> None:
    """Kilroy: node environment; the command text itself is never rewritten."""
    request = tool(request_for, "pwd; echo $KILROY_NODE_ID $KILROY_RUN_ID; touch made; echo '$goal'")
    outcome = run_tool(request)

    assert outcome.context_updates["tool.output"] == f"{request.work_dir}\na R1\n$goal\n"
    assert (request.work_dir / "made").exists()


def test_the_output_in_the_context_ends_after_8000_characters(request_for: Requests) -> None:
    """The logs have all of it; no character is cut in half."""
    request = tool(request_for, "for i in $(seq 9000); do printf €; done; echo err >&2")
    outcome = run_tool(request)

    assert outcome.context_updates["tool.output"] == "€" * 8000
    assert (request.stage_dir / "stdout.log").read_text() == "€" * 9000
    assert (request.stage_dir / "stderr.log").read_text() == "err\n"


def test_big_and_binary_output_is_no_reason_to_fail(request_for: Requests) -> None:
    """The command of recorded run ``21d``, which Kilroy completes."""
    request = tool(request_for, r"seq 1 20000; printf '\000\377bin'; seq 1 20000 >&2")
    outcome = run_tool(request)

    assert (outcome.status, outcome.notes) == ("success", "tool completed")
    assert (request.stage_dir / "stdout.log").read_bytes().endswith(b"20000\n\x00\xffbin")
    json.dumps(outcome.context_updates)


def test_output_lines_reach_the_sink(request_for: Requests) -> None:
    """They become log lines for people."""
    lines: list[tuple[str, str]] = []
    run_tool(tool(request_for, "echo one; echo two >&2", output=lambda stream, line: lines.append((stream, line))))

    assert sorted(lines) == [("stderr", "two"), ("stdout", "one")]


def test_a_blank_command_fails_with_kilroys_reason(request_for: Requests) -> None:
    """Validation catches it too; a transform may still leave it blank."""
    assert run_tool(tool(request_for, " ")).failure_reason == "no tool_command specified"


def test_a_simulated_tool_succeeds_without_running(request_for: Requests) -> None:
    """And says so in its notes."""
    request = tool(request_for, "touch made", settings=RunSettings(simulate=True))
    outcome = run_tool(request)

    assert outcome.status == "success"
    assert outcome.notes == "simulated: tool_command was not run: touch made"
    assert list(request.work_dir.iterdir()) == list(request.stage_dir.iterdir()) == []


class TestHints:
    """A program or file that is not there is the most frequent failure of all: only committed files are in a worktree."""

    def test_an_unknown_program_hints_at_git(self, request_for: Requests) -> None:
        """The reason keeps Go's text first, the hint follows on a line of its own (Kilroy)."""
        reason = run_tool(tool(request_for, "no-such-program-here --flag")).failure_reason

        assert reason.startswith("exit status 127\n  hint: ")
        assert "commit" in reason

    def test_a_missing_script_is_named(self, request_for: Requests) -> None:
        """The path as the command has it."""
        reason = run_tool(tool(request_for, "./scripts/check.sh --all")).failure_reason

        assert reason.startswith("exit status 127\n  hint: ./scripts/check.sh does not exist there")

    def test_a_script_that_is_there_gets_no_hint(self, request_for: Requests) -> None:
        """It is something inside of it that is missing; the log says what."""
        request = tool(request_for, "./check.sh")
        script = request.work_dir / "check.sh"
        script.write_text("#!/bin/sh\ncat no-such-file\n")
        script.chmod(0o755)

        assert run_tool(request).failure_reason == "exit status 1"

    def test_other_failures_get_no_hint(self, request_for: Requests) -> None:
        """The hint is for missing things only."""
        assert run_tool(tool(request_for, "echo wrong >&2; exit 2")).failure_reason == "exit status 2"


def judged(request: StageRequest) -> Outcome:
    """What the engine makes of the tool's outcome and of the verdict that the stage has left."""
    return with_stage_status(run_tool(request), read_status(request.stage_dir).outcome)


class TestStatusFile:
    """``status.json`` in ``$KILROY_STAGE_LOGS_DIR`` decides (recorded runs ``17a`` to ``17c``)."""

    def test_a_failing_verdict_beats_exit_zero(self, request_for: Requests) -> None:
        """Recorded run ``17c``."""
        command = """echo '{"status":"fail","failure_reason":"not good"}' > $KILROY_STAGE_LOGS_DIR/status.json"""
        outcome = judged(tool(request_for, command))

        assert (outcome.status, outcome.failure_reason) == ("fail", "not good")
        assert "tool.output" in outcome.context_updates

    def test_a_successful_verdict_beats_a_failing_exit(self, request_for: Requests) -> None:
        """Kilroy: the file replaces the outcome, label and all."""
        command = """echo '{"status":"success","preferred_label":"ship"}' > $KILROY_STAGE_LOGS_DIR/status.json; exit 1"""
        outcome = judged(tool(request_for, command))

        assert (outcome.status, outcome.preferred_label, outcome.failure_reason) == ("success", "ship", "")

    def test_a_damaged_file_does_not_decide(self, request_for: Requests) -> None:
        """Kilroy ignores what it cannot decode."""
        assert judged(tool(request_for, "echo '{' > $KILROY_STAGE_LOGS_DIR/status.json")).status == "success"

    def test_a_stopped_stage_did_not_finish_whatever_it_wrote_before(self, request_for: Requests) -> None:
        """An early success must not cover a timeout."""
        command = """echo '{"status":"success"}' > $KILROY_STAGE_LOGS_DIR/status.json; sleep 64.625"""
        outcome = judged(tool(request_for, command, timeout_s=0.5))

        assert (outcome.status, outcome.failure_reason) == ("fail", "tool_command timed out after 500ms")


class TestCannotStart:
    """What keeps bash from starting is a failure with a reason, not a crash."""

    def test_a_machine_without_bash(self, request_for: Requests, tmp_path: Path) -> None:
        """Looked for on the stage's own PATH."""
        request = tool(request_for, "true", environment={"PATH": str(tmp_path)})

        assert run_tool(request).failure_reason == "cannot run tool_command: bash is not installed or not on PATH"

    def test_a_work_folder_that_is_gone(self, request_for: Requests) -> None:
        """An earlier stage may have removed it."""
        request = tool(request_for, "true")
        request.work_dir.rmdir()

        assert run_tool(request).failure_reason == f"cannot run tool_command: its work folder {request.work_dir} is gone"

    def test_an_environment_that_is_too_large(self, request_for: Requests) -> None:
        """The system's own words."""
        request = tool(request_for, "true", environment={**os.environ, "BIG": "x" * 10_000_000})

        assert "Argument list too long" in run_tool(request).failure_reason


def test_a_long_output_that_ends_differently_is_another_failure(request_for: Requests) -> None:
    """The context holds the beginning of a long output, the failure's signature follows its end: a test run whose last lines
    change is making progress."""
    command = "seq 5000; echo {} failed; exit 1"
    first, again, other = (run_tool(tool(request_for, command.format(word))) for word in ("left", "left", "right"))

    assert signature("t", first) == signature("t", again)
    assert signature("t", first) != signature("t", other)
    assert first.context_updates["tool.output"] == other.context_updates["tool.output"]
