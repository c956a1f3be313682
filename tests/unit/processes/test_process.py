"""Running a command: its output, its end, and that nothing of it is left after a stop."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from kilroy_engine.errors import StopKind
from kilroy_engine.processes.command import Command, CommandEnd, Ending, run_command
from kilroy_engine.stopping import Cancellation

Runner = Callable[..., CommandEnd]


@pytest.fixture
def lines() -> list[tuple[str, str]]:
    """What the sink was given."""
    return []


@pytest.fixture
def bash(tmp_path: Path, lines: list[tuple[str, str]]) -> Runner:
    """Runs bash text in ``tmp_path``, logs there, lines to ``lines``."""

    def run(text: str, *, timeout_s: float = 20.0, cancellation: Cancellation | None = None) -> CommandEnd:
        command = Command(("bash", "-c", text), tmp_path, dict(os.environ), tmp_path, timeout_s)
        return run_command(
            command, cancellation=cancellation or Cancellation(), output=lambda stream, line: lines.append((stream, line))
        )

    return run


def processes_of(marker: str) -> list[psutil.Process]:
    """Live processes whose command line holds ``marker``."""
    return [
        process
        for process in psutil.process_iter(["cmdline", "status"])
        if marker in " ".join(process.info["cmdline"] or ()) and process.info["status"] != psutil.STATUS_ZOMBIE
    ]


def wait_until(condition: Callable[[], object], *, seconds: float = 5.0) -> bool:
    """Whether ``condition`` came true within the deadline."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


class TestOutput:
    """Everything goes to the logs, line by line to the sink."""

    def test_both_streams_are_complete_and_apart(self, bash: Runner, tmp_path: Path, lines: list[tuple[str, str]]) -> None:
        """The logs hold the bytes, the sink gets lines that are not empty."""
        end = bash("echo one; echo; echo two >&2; printf three")

        assert (end.ending, end.exit_code) == (Ending.EXITED, 0)
        assert (tmp_path / "stdout.log").read_bytes() == b"one\n\nthree"
        assert (tmp_path / "stderr.log").read_bytes() == b"two\n"
        assert [line for stream, line in lines if stream == "stdout"] == ["one", "three"]
        assert [line for stream, line in lines if stream == "stderr"] == ["two"]

    def test_lines_arrive_while_the_command_runs(self, bash: Runner, tmp_path: Path, lines: list[tuple[str, str]]) -> None:
        """A person who follows a long stage sees it at work: the command goes on only when its line was seen."""
        go_on = tmp_path / "go"

        def answer() -> None:
            if wait_until(lambda: ("stdout", "asked") in lines):
                go_on.touch()

        helper = threading.Thread(target=answer)
        helper.start()
        end = bash(f"echo asked; until [ -e {go_on} ]; do sleep 0.02; done; echo answered", timeout_s=10)
        helper.join()

        assert end.ending is Ending.EXITED
        assert lines[-1] == ("stdout", "answered")

    def test_characters_that_are_split_between_reads_stay_whole(self, bash: Runner, lines: list[tuple[str, str]]) -> None:
        """Multi-byte characters come in pieces when a program flushes in the middle of one."""
        bash(r"printf '\xe2\x82'; sleep 0.1; printf '\xac and \xf0\x9f'; sleep 0.1; printf '\x90\x8d\n'")

        assert lines == [("stdout", "€ and 🐍")]

    def test_binary_output_is_kept_as_it_is(self, bash: Runner, tmp_path: Path, lines: list[tuple[str, str]]) -> None:
        """The log has the very bytes, the sink a replacement for what is no text."""
        bash(r"printf '\000\377bin\n'")

        assert (tmp_path / "stdout.log").read_bytes() == b"\x00\xffbin\n"
        assert lines == [("stdout", "\x00�bin")]

    def test_ten_megabytes_take_little_time_and_lose_nothing(
        self, bash: Runner, tmp_path: Path, lines: list[tuple[str, str]]
    ) -> None:
        """Counted in the engine's own processor time, so that a busy machine does not decide."""
        began = time.process_time()
        bash("seq 1 1400000")
        spent = time.process_time() - began

        assert (tmp_path / "stdout.log").stat().st_size > 10_000_000
        assert len(lines) == 1_400_000
        assert lines[-1] == ("stdout", "1400000")
        assert spent < 3.0

    def test_a_line_without_end_comes_in_pieces_and_takes_no_memory(self, tmp_path: Path, lines: list[tuple[str, str]]) -> None:
        """50 MB without a newline must not be held whole."""
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        sizes: list[int] = []
        command = Command(("head", "-c", "50000000", "/dev/zero"), tmp_path, dict(os.environ), tmp_path, 20.0)
        run_command(command, cancellation=Cancellation(), output=lambda _, line: sizes.append(len(line)))

        assert sum(sizes) == (tmp_path / "stdout.log").stat().st_size == 50_000_000
        assert max(sizes) <= 1 << 16
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 30_000

    def test_carriage_returns_at_line_ends_are_dropped(self, bash: Runner, lines: list[tuple[str, str]]) -> None:
        """Programs made for Windows end lines with both."""
        bash(r"printf 'one\r\ntwo\r\n'")

        assert lines == [("stdout", "one"), ("stdout", "two")]

    def test_standard_input_is_empty(self, bash: Runner) -> None:
        """A command that reads gets the end at once, and never waits for a terminal."""
        assert bash('read -r line; [ -z "$line" ] && test ! -t 0').exit_code == 0


class TestEnd:
    """How a command ends, and what outlives it."""

    @pytest.mark.parametrize(("text", "exit_code"), [("exit 3", 3), ("kill -9 $$", -9), ("no-such-command-here", 127)])
    def test_the_exit_code_is_bashs(self, bash: Runner, text: str, exit_code: int) -> None:
        """Negative for a signal."""
        end = bash(text)

        assert (end.ending, end.exit_code) == (Ending.EXITED, exit_code)

    def test_a_background_child_that_holds_the_output_does_not_hold_the_stage(self, bash: Runner) -> None:
        """A server that a stage starts keeps the pipe open; the stage ends all the same, the server lives on."""
        began = time.monotonic()
        end = bash("sleep 61.25 & echo started")
        try:
            assert end.ending is Ending.EXITED
            assert time.monotonic() - began < 3
            assert len(processes_of("sleep 61.25")) == 1
        finally:
            for process in processes_of("sleep 61.25"):
                process.kill()

    def test_a_background_child_that_keeps_writing_holds_the_stage_for_three_seconds_at_most(
        self, bash: Runner, lines: list[tuple[str, str]]
    ) -> None:
        """Its output is read on while it comes, but not for ever (Kilroy's bound)."""
        began = time.monotonic()
        bash("(while true; do echo tick; sleep 0.1; done; : 61.375) & echo started")

        assert 2.5 < time.monotonic() - began < 6
        assert lines.count(("stdout", "tick")) > 10
        # Nobody reads any more: its next line ends it.
        assert wait_until(lambda: not processes_of("61.375"))

    def test_late_output_of_a_filter_is_not_lost(self, bash: Runner, lines: list[tuple[str, str]]) -> None:
        """A process substitution may outlive bash by a moment."""
        bash("exec > >(sleep 0.3; cat); echo filtered")

        assert lines == [("stdout", "filtered")]

    def test_a_command_that_closes_its_output_early_is_waited_for(self, bash: Runner) -> None:
        """The end of the output is not the end of the command."""
        end = bash("exec >&- 2>&-; sleep 0.3; exit 5")

        assert end.exit_code == 5
        assert end.duration_s >= 0.3

    def test_a_command_that_cannot_be_started_is_an_os_error(self, tmp_path: Path) -> None:
        """And leaves no process behind."""
        with pytest.raises(FileNotFoundError, match="no-such-program"):
            run_command(Command(("no-such-program",), tmp_path, {}, tmp_path, 1.0), cancellation=Cancellation())


class TestStop:
    """A timeout, a cancellation, an exception: the whole group ends, and what left it."""

    def test_a_timeout_ends_the_whole_group(self, bash: Runner, lines: list[tuple[str, str]]) -> None:
        """Children, and children of children."""
        end = bash("echo begin; sleep 62.25 & bash -c 'sleep 62.25; true' & wait; echo end", timeout_s=0.5)

        assert end.ending is Ending.TIMED_OUT
        assert end.duration_s < 2
        assert lines == [("stdout", "begin")]
        assert processes_of("sleep 62.25") == []

    def test_a_timeout_ends_children_that_left_the_group(self, bash: Runner) -> None:
        """``setsid`` takes a child out of the group and the session, not out of our sight."""
        bash("setsid sleep 62.375 & sleep 62.375", timeout_s=0.5)

        assert processes_of("sleep 62.375") == []

    def test_a_command_that_ignores_the_polite_signal_is_ended_all_the_same(self, bash: Runner) -> None:
        """After the grace of half a second."""
        end = bash("trap '' TERM; sleep 62.5; sleep 62.5", timeout_s=0.3)

        assert (end.ending, end.exit_code) == (Ending.TIMED_OUT, -9)
        assert end.duration_s < 3
        assert processes_of("sleep 62.5") == []

    def test_a_stopped_command_may_clean_up_and_its_last_words_are_kept(self, bash: Runner, tmp_path: Path) -> None:
        """Kilroy kills at once; a moment of grace lets a tool remove its lock files."""
        bash("trap 'echo bye; exit 0' TERM; sleep 62.625 & wait", timeout_s=0.3)

        assert (tmp_path / "stdout.log").read_text() == "bye\n"

    def test_a_cancellation_ends_a_running_command_within_a_second(self, bash: Runner) -> None:
        """From the request to the return, children gone."""
        cancellation = Cancellation()
        asked: list[float] = []

        def ask() -> None:
            if wait_until(lambda: processes_of("sleep 63.25")):
                asked.append(time.monotonic())
                cancellation.request(StopKind.PERSON, "by kilroy stop")

        helper = threading.Thread(target=ask)
        helper.start()
        end = bash("sleep 63.25 | cat", cancellation=cancellation)
        returned = time.monotonic()
        helper.join()

        assert end.ending is Ending.CANCELED
        assert returned - asked[0] < 1.0
        assert processes_of("sleep 63.25") == []

    def test_an_exception_that_passes_through_leaves_nothing_running(self, tmp_path: Path) -> None:
        """A sink that breaks (a full disk behind it, a cancel of the flow) must not orphan the command."""

        def broken(stream: str, line: str) -> None:
            raise RuntimeError(line)

        command = Command(("bash", "-c", "echo boom; sleep 63.5"), tmp_path, dict(os.environ), tmp_path, 20.0)
        with pytest.raises(RuntimeError, match="boom"):
            run_command(command, cancellation=Cancellation(), output=broken)
        assert processes_of("sleep 63.5") == []

    def test_a_command_begins_only_when_its_group_is_on_record(self, bash: Runner, tmp_path: Path) -> None:
        """Whoever ends the run after the engine died must find everything that ever ran."""
        assert bash(f"test -s {tmp_path}/process-$$.json").exit_code == 0

    def test_a_command_never_begins_when_the_engine_dies_before_it_is_on_record(self, tmp_path: Path) -> None:
        """A killed engine leaves a command that has not begun, and that ends by itself."""
        marker = tmp_path / "begun-63.625"
        program = (
            "import os, sys, pathlib\n"
            "from kilroy_engine import stopping\n"
            "from kilroy_engine.processes import command as process\n"
            "process.record_process = lambda *_: os.kill(os.getpid(), 9)\n"
            "folder = pathlib.Path(sys.argv[1])\n"
            "command = process.Command(('touch', sys.argv[2]), folder, dict(os.environ), folder, 9.0)\n"
            "process.run_command(command, cancellation=stopping.Cancellation())\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", program, str(tmp_path), str(marker)],
            check=False,
            env={**os.environ, "PYTHONPATH": ":".join(sys.path)},
        )

        assert done.returncode == -9
        assert wait_until(lambda: not processes_of(str(marker)))
        assert not marker.exists()


def test_a_stage_costs_the_engine_less_than_two_milliseconds_beside_the_process(bash: Runner) -> None:
    """In processor time, against a bare :func:`subprocess.run` of the same command; best of five rounds."""

    def round_s(run: Callable[[], object]) -> float:
        began = time.process_time()
        for _ in range(20):
            run()
        return (time.process_time() - began) / 20

    bare_s = min(round_s(lambda: subprocess.run(["bash", "-c", "true"], check=True)) for _ in range(5))
    ours_s = min(round_s(lambda: bash("true")) for _ in range(5))

    assert ours_s - bare_s < 0.002


@pytest.mark.parametrize("kind", ["pipe", "link", "folder"])
def test_logs_are_files_whatever_an_earlier_attempt_left_in_their_place(bash: Runner, tmp_path: Path, kind: str) -> None:
    """Opening a pipe for writing would wait for a reader, and a link would have its target overwritten."""
    (tmp_path / "precious").write_text("1")
    for name in ("stdout.log", "stderr.log"):
        match kind:
            case "pipe":
                os.mkfifo(tmp_path / name)
            case "link":
                (tmp_path / name).symlink_to(tmp_path / "precious")
            case _:
                (tmp_path / name).mkdir()
    assert bash("echo out; echo err >&2").exit_code == 0
    assert [(tmp_path / name).read_text() for name in ("stdout.log", "stderr.log", "precious")] == ["out\n", "err\n", "1"]
