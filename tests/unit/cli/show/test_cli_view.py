"""Following a run while it runs: rows, the live board on a terminal, plain lines elsewhere."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest
from run_writer import Writer, clean_environment

from kilroy_engine.cli.show.board import Board
from kilroy_engine.cli.show.view import last_output_line

_ANSI = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")

_SOURCE = """
import sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from run_writer import RunWriter, append_all, append_stages, stage
from kilroy_engine.cli.show.streams import prepare_streams
from kilroy_engine.cli.show.view import Follower, choose_view
prepare_streams()
one = RunWriter(Path(sys.argv[2]), "01VIEW")
log = one.open()
follower = Follower(one.run, choose_view(one.run))
append_stages(log, "start")
events = stage("build", "exit status 1", limit=2)
log.append(events[0])
(one.run.path / "build").mkdir()
(one.run.path / "build" / "stdout.log").write_text("compiling\\n\\x1b[32mlinking the program\\x1b[0m\\n")
time.sleep(float(sys.argv[3]))
append_all(log, events[1:])
append_stages(log, "exit")
one.end(log)
follower.stop()
print("result=on stdout", flush=True)
"""
PROGRAM = [sys.executable, "-c", _SOURCE, str(Path(__file__).parents[1])]


def event(name: str, second: int, **fields: object) -> dict[str, object]:
    """An event at ``second``."""
    return {"event": name, "ts": f"2026-01-02T03:04:{second:02d}Z", **fields}


def test_a_visit_is_one_row_however_many_attempts_it_takes() -> None:
    """Between attempts the row stays open; it is over when the walk goes on."""
    board = Board()
    board.apply(event("stage_attempt_start", 0, node_id="a", attempt=1, max=2))
    board.apply(event("stage_attempt_end", 1, node_id="a", attempt=1, max=2, status="fail", failure_reason="no"))
    board.apply(event("retry_decision", 1, node_id="a", attempt=1, will_retry=True))
    assert [row.status for row in board.rows] == ["retrying"]
    board.apply(event("stage_attempt_start", 3, node_id="a", attempt=2, max=2))
    assert [(row.status, row.attempt, row.detail) for row in board.rows] == [("running", 2, "")]
    board.apply(event("stage_attempt_end", 5, node_id="a", attempt=2, max=2, status="success"))
    [over] = board.apply(event("checkpoint_saved", 5, node_id="a"))
    assert (over.status, over.attempt, over.visit) == ("success", 2, 1)
    assert over.ended_at is not None
    assert over.elapsed_s(over.started_at) == 5.0
    assert board.rows == ()


def test_a_second_arrival_is_a_second_visit() -> None:
    """A loop gives a node a row per arrival."""
    board = Board()
    for number in (1, 2):
        board.apply(event("stage_attempt_start", number, node_id="a", attempt=1, max=1))
        board.apply(event("stage_attempt_end", number, node_id="a", attempt=1, max=1, status="success"))
        [over] = board.apply(event("edge_selected", number, from_node="a", to_node="a"))
        assert over.visit == number


def test_an_output_contract_turns_a_success_into_a_failure() -> None:
    """The missing output is told after the attempt's end, and before the visit is over."""
    board = Board()
    board.apply(event("stage_attempt_start", 0, node_id="a", attempt=1, max=1))
    board.apply(event("stage_attempt_end", 1, node_id="a", attempt=1, max=1, status="success"))
    assert board.apply(event("output_contract_violated", 1, node_id="a", failure_reason="out.txt is missing")) == ()
    [over] = board.apply(event("checkpoint_saved", 1, node_id="a"))
    assert (over.status, over.detail) == ("fail", "out.txt is missing")


def test_a_gate_is_a_row_that_waits() -> None:
    """While a person is asked, the row shows the question."""
    board = Board()
    board.apply(event("stage_attempt_start", 0, node_id="gate", attempt=1, max=1))
    board.apply(event("human_gate_opened", 0, node_id="gate", question="Ship it?"))
    assert [(row.status, row.detail) for row in board.rows] == [("waiting", "Ship it?")]
    board.apply(event("human_gate_answered", 9, node_id="gate", choice="yes"))
    assert [row.status for row in board.rows] == ["running"]


def test_stages_of_branches_have_rows_of_their_own() -> None:
    """Branches run side by side; each stage is named after its branch."""
    board = Board()
    for key in ("left", "right"):
        board.apply(
            event(
                "branch_progress",
                0,
                branch_key=key,
                branch_event="stage_attempt_start",
                branch_node_id="work",
                branch_attempt=1,
            )
        )
    assert [row.node_id for row in board.rows] == ["left/work", "right/work"]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (b"", ""),
        (b"one\ntwo\n", "two"),
        (b"10%\r20%\r30%", "30%"),
        (b"\x1b[1;31mred\x1b[0m \xff\x07bell\n\n\n", "red \ufffd bell"),
        (b"x" * 100_000 + b"\nlast", "last"),
    ],
)
def test_the_last_line_of_output_is_plain_text(tmp_path: Path, text: bytes, line: str) -> None:
    """Progress bars, colors, control characters and long output end up as one readable line."""
    (tmp_path / "stdout.log").write_bytes(text)
    assert last_output_line(tmp_path) == line


def test_without_a_terminal_every_event_that_matters_is_a_line(tmp_path: Path) -> None:
    """Logs of a CI job: time, node, status; no control characters."""
    done = subprocess.run(
        [*PROGRAM, str(tmp_path / "runs"), "0"],
        capture_output=True,
        text=True,
        env=clean_environment(tmp_path),
        timeout=60,
        check=True,
    )
    assert done.stdout == "result=on stdout\n"
    assert "\x1b" not in done.stderr
    texts = [line.split("  ", 1)[1].split(" (")[0] for line in done.stderr.splitlines()]
    assert texts == [
        "run 01VIEW started: demo: build it", "start: started", "start: success", "build: started", "build: fail",
        "build: started", "build: success", "exit: started", "exit: success", "run success",
    ]  # fmt: skip


def test_a_closed_standard_error_does_not_hurt_the_run(tmp_path: Path) -> None:
    """``kilroy run … 2>&1 | head`` loses the view, never the run."""
    program = [*PROGRAM, str(tmp_path / "runs"), "0.5"]
    with subprocess.Popen(
        program, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=clean_environment(tmp_path), text=True
    ) as process:
        assert process.stderr is not None
        assert process.stdout is not None
        process.stderr.close()
        assert process.stdout.read() == "result=on stdout\n"
        assert process.wait(timeout=60) == 0


def test_on_a_terminal_the_running_stage_shows_its_last_line_of_output(tmp_path: Path) -> None:
    """The live view: what runs, for how long, its last line; finished visits stay above; the cursor is shown again."""
    screen = on_terminal([*PROGRAM, str(tmp_path / "runs"), "1.5"], tmp_path)
    text = _ANSI.sub("", screen)
    assert re.search(r"build +running +[\d.]+ s  linking the program", text)
    assert "Ctrl-C cancels the run" in text
    assert re.search(r"✓ start +success", text)
    assert re.search(r"✓ build +success +[\d.]+ s after 2 attempts", text)
    assert text.rstrip().endswith("result=on stdout")
    assert screen.rindex("\x1b[?25h") > screen.rindex("\x1b[?25l")


def on_terminal(command: list[str], tmp_path: Path) -> str:
    """Everything that ``command`` writes to a terminal of 100 columns."""
    parent, child = pty.openpty()
    fcntl.ioctl(child, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 100, 0, 0))
    environment = clean_environment(tmp_path) | {"TERM": "xterm-256color", "LANG": "C.UTF-8"}
    process = subprocess.Popen(command, stdin=child, stdout=child, stderr=child, env=environment, close_fds=True)
    os.close(child)
    written = b""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        ready, _, _ = select.select([parent], [], [], 0.2)
        try:
            news = os.read(parent, 65536) if ready else None
        except OSError:
            break  # Linux tells the end of a terminal so
        if news == b"":
            break
        written += news or b""
    assert process.wait(timeout=10) == 0, written.decode()
    os.close(parent)
    return written.decode()


def test_a_run_is_written_as_the_engine_writes_it(writer: Writer) -> None:
    """The fixture of these tests uses the engine's writers, so its stream ends as the contract says."""
    run = writer("01A").ended()
    assert '"event":"run_completed"' in run.progress.read_text().splitlines()[-1]
