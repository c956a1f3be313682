"""Runs one command for a stage: own session, own pipes, all of its output on disk, nothing of it left after a stop."""

from __future__ import annotations

import codecs
import errno
import logging
import math
import os
import selectors
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import IO

from kilroy_engine.processes.output import OutputSink, discard_output
from kilroy_engine.rundir.files.regular import open_for_writing
from kilroy_engine.rundir.stages.process_groups import end_group, record_process
from kilroy_engine.stopping import Cancellation

_CHUNK_BYTES = 1 << 16
_PIPE_CHUNKS = 64  # 4 MiB: a pipe holds 64 KiB, and 1 MiB at most without privileges
LINE_LIMIT = 1 << 16
"""Characters of a line that people read: a longer one reaches the sink in pieces, so that it never has to be held whole."""
PARSED_LINE_LIMIT = 16 << 20
"""The same for lines that a parser reads, which has no use for pieces."""
_POLL_S = 0.05
_QUIET_S = 0.5
_DRAIN_S = 3.0
_WAIT_S = 10.0  # for a child that has ended or was killed
# The command begins when its start is on record. If the engine dies before, the read finds the end and nothing has happened.
# The first argument is the file that it reads as standard input.
_WHEN_RECORDED = ("/bin/sh", "-c", 'read -r _ || exit 125; from=$1; shift; exec "$@" <"$from"', "sh")


_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Command:
    """What to run. ``timeout_s`` limits it, ``idle_timeout_s`` limits how long it may be silent (None: as long as it likes).

    A stop sends ``stop_signal``, and SIGKILL to what is left after ``grace_s``. ``environment`` is complete: nothing of the
    engine's own is added. ``stdin`` is the file that the command reads, None for an empty one. Output goes to ``stdout.log``
    and ``stderr.log`` in ``stage_dir``. A line of more than ``line_limit`` characters is handed on in pieces. Blank lines are
    handed on with ``blank_lines`` only.
    """

    argv: tuple[str, ...]
    work_dir: Path
    environment: Mapping[str, str]
    stage_dir: Path
    timeout_s: float
    grace_s: float = 0.5
    idle_timeout_s: float | None = None
    stop_signal: signal.Signals = signal.SIGTERM
    stdin: Path | None = None
    line_limit: int = LINE_LIMIT
    blank_lines: bool = False


@dataclass(frozen=True, slots=True)
class Beat:
    """How a command that is at work is getting on: seconds since its start and since its last output, bytes of output."""

    elapsed_s: float
    silent_s: float
    stdout_bytes: int
    stderr_bytes: int


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """Every ``interval_s`` seconds of a command's life ``tell`` is called with how it is getting on."""

    interval_s: float
    tell: Callable[[Beat], None]


class Ending(StrEnum):
    """Why a command is over."""

    EXITED = "exited"
    TIMED_OUT = "timed out"
    IDLE = "idle"
    CANCELED = "canceled"


@dataclass(frozen=True, slots=True)
class CommandEnd:
    """How a command ended. ``exit_code`` is negative for a signal, as in :mod:`subprocess`."""

    ending: Ending
    exit_code: int
    duration_s: float


def run_command(
    command: Command,
    *,
    cancellation: Cancellation,
    output: OutputSink = discard_output,
    heartbeat: Heartbeat | None = None,
) -> CommandEnd:
    """Runs ``command`` to its end and returns how it ended.

    A stop (a limit, cancellation, or any exception that passes through) ends the whole process group and the descendants
    that left it. A child that the command left in the background, holding a pipe, is waited for only while it still writes,
    3 s at most; such a child lives on until the run ends (Kilroy: tools may start servers for later stages).

    Raises:
        OSError: The command could not be started, or its output could not be written.
        ValueError: No process can have such arguments or such an environment.
    """
    started = time.monotonic()
    _require_program(command)
    with ExitStack() as stack:
        logs = [stack.enter_context(_new_log(command.stage_dir / f"{name}.log")) for name in _STREAMS]
        process = subprocess.Popen(
            (*_WHEN_RECORDED, os.fspath(command.stdin or os.devnull), *command.argv),
            cwd=command.work_dir,
            env=command.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            start_new_session=True,
        )
        stack.callback(_reap, process)
        pipes = [stack.enter_context(pipe) for pipe in (process.stdout, process.stderr) if pipe is not None]
        streams = [_Stream(*parts, output, command) for parts in zip(_STREAMS, pipes, logs, strict=True)]
        try:
            record_process(command.stage_dir, process)
            _let_begin(process)
            ending = _Follower(process, streams, command, heartbeat).follow(cancellation)
            if ending is not Ending.EXITED:
                end_group(process, grace_s=command.grace_s, first=command.stop_signal, meanwhile=partial(_read_all, streams))
        except BaseException:
            # Whatever passes through here, an interrupt included, must not leave the command running unwatched. A second
            # Ctrl-C comes here from the grace of the first.
            end_group(process, grace_s=command.grace_s, first=command.stop_signal, meanwhile=partial(_read_all, streams))
            raise
        if ending is not Ending.EXITED:
            _read_all(streams)
        for stream in streams:
            stream.finish()
        return CommandEnd(ending, _exit_code(process), time.monotonic() - started)


_STREAMS = ("stdout", "stderr")


def _new_log(path: Path) -> IO[bytes]:
    return os.fdopen(open_for_writing(path, os.O_WRONLY | os.O_TRUNC), "wb", buffering=0)


def _require_program(command: Command) -> None:
    program = command.argv[0]
    if "/" in program:
        program = str(command.work_dir / program)  # where it is going to be started
    if shutil.which(program, path=command.environment.get("PATH")) is None:
        raise FileNotFoundError(errno.ENOENT, "not installed or not on PATH", program)


def _reap(process: subprocess.Popen[bytes]) -> None:
    """Takes the exit code. A command that is still there, because ending it was interrupted once more, gets no more time."""
    if process.poll() is None:
        end_group(process, grace_s=0)
    _exit_code(process)


def _exit_code(process: subprocess.Popen[bytes]) -> int:
    """The exit code. A process that nobody here may end, such as another user's, is not waited for: its code counts as -9."""
    try:
        return process.wait(_WAIT_S)
    except subprocess.TimeoutExpired:
        _log.warning("process %d does not end, and may still be at work: it was sent SIGKILL", process.pid)
        return -signal.SIGKILL


def _let_begin(process: subprocess.Popen[bytes]) -> None:
    if process.stdin is None:
        return
    try:
        with process.stdin as gate:
            gate.write(b"\n")
    except BrokenPipeError:
        pass  # ended from outside before it began: its exit code tells


class _Stream:
    """One pipe of the child: bytes go to its log as they come, lines to the sink."""

    def __init__(self, name: str, pipe: IO[bytes], log: IO[bytes], output: OutputSink, command: Command) -> None:
        os.set_blocking(pipe.fileno(), False)
        self.pipe = pipe
        self.open = True
        self.bytes_read = 0
        self._name = name
        self._log = log
        self._output = output
        self._line_limit = command.line_limit
        self._blank_lines = command.blank_lines
        self._decode = codecs.getincrementaldecoder("utf-8")(errors="replace").decode
        self._begun: list[str] = []  # the pieces of a line that has not ended: joined once, however many there are
        self._begun_length = 0

    def read(self) -> bool:
        """Takes what is there, one chunk at most. False when there was nothing."""
        try:
            chunk = os.read(self.pipe.fileno(), _CHUNK_BYTES)
        except BlockingIOError:
            return False
        if not chunk:
            self.open = False
            return False
        self.bytes_read += len(chunk)
        view = memoryview(chunk)
        while view:
            view = view[self._log.write(view) :]
        self._feed(self._decode(chunk))
        return True

    def read_rest(self) -> None:
        """Takes what is in the pipe now, without waiting for its end; no more than a pipe holds, somebody may still write."""
        for _ in range(_PIPE_CHUNKS):
            if not (self.open and self.read()):
                return

    def finish(self) -> None:
        """Hands on a last line that has no newline."""
        self._feed(self._decode(b"", True))
        if self._begun:
            self._end_line()

    def _feed(self, text: str) -> None:
        *lines, rest = text.split("\n")
        for line in lines:
            self._add(line)
            self._end_line()
        self._add(rest)

    def _add(self, text: str) -> None:
        while self._begun_length + len(text) > self._line_limit:
            room = self._line_limit - self._begun_length
            self._begun.append(text[:room])
            text = text[room:]
            self._end_line()
        if text:
            self._begun.append(text)
            self._begun_length += len(text)

    def _end_line(self) -> None:
        line = "".join(self._begun).removesuffix("\r")
        self._begun.clear()
        self._begun_length = 0
        if line or self._blank_lines:
            self._output(self._name, line)


def _read_all(streams: list[_Stream]) -> None:
    for stream in streams:
        stream.read_rest()


class _Follower:
    """Reads a child's pipes until it is over, watching the clock and the request to stop."""

    def __init__(
        self, process: subprocess.Popen[bytes], streams: list[_Stream], command: Command, heartbeat: Heartbeat | None
    ) -> None:
        self._process = process
        self._streams = streams
        self._limit_s = command.timeout_s
        self._idle_limit_s = command.idle_timeout_s if command.idle_timeout_s is not None else math.inf
        self._heartbeat = heartbeat
        self._started = self._last_output = time.monotonic()
        self._next_beat = self._started + heartbeat.interval_s if heartbeat else math.inf

    def follow(self, cancellation: Cancellation) -> Ending:
        with selectors.DefaultSelector() as selector, _exit_descriptor(self._process) as exit_fd:
            for stream in self._streams:
                selector.register(stream.pipe, selectors.EVENT_READ, stream)
            if exit_fd is not None:
                selector.register(exit_fd, selectors.EVENT_READ)
            while self._process.poll() is None:
                if cancellation.requested:
                    return Ending.CANCELED
                now = time.monotonic()
                left_s = self._started + self._limit_s - now
                may_be_silent_s = self._last_output + self._idle_limit_s - now
                if left_s <= 0:
                    return Ending.TIMED_OUT
                if may_be_silent_s <= 0:
                    return Ending.IDLE
                self._beat(now)
                if _read_ready(selector, min(_POLL_S, left_s, may_be_silent_s)):
                    self._last_output = time.monotonic()
            if exit_fd is not None:
                selector.unregister(exit_fd)
            self._drain(selector)
        return Ending.EXITED

    def _beat(self, now: float) -> None:
        if self._heartbeat is None or now < self._next_beat:
            return
        self._next_beat = now + self._heartbeat.interval_s
        stdout, stderr = self._streams
        self._heartbeat.tell(
            Beat(now - self._started, now - self._last_output, stdout_bytes=stdout.bytes_read, stderr_bytes=stderr.bytes_read)
        )

    def _drain(self, selector: selectors.BaseSelector) -> None:
        """Reads on until both pipes end, or nobody wrote for a while, or for 3 s: a background child may hold them."""
        now = time.monotonic()
        until, quiet_until = now + _DRAIN_S, now + _QUIET_S
        while any(stream.open for stream in self._streams) and now < min(until, quiet_until):
            if _read_ready(selector, min(until, quiet_until) - now):
                quiet_until = time.monotonic() + _QUIET_S
            now = time.monotonic()


def _read_ready(selector: selectors.BaseSelector, wait_s: float) -> bool:
    """Waits for output or the exit, reads what came, forgets pipes that ended. True when something was read."""
    got = False
    for key, _ in selector.select(wait_s):
        stream = key.data
        if not isinstance(stream, _Stream):
            continue
        got |= stream.read()
        if not stream.open:
            selector.unregister(stream.pipe)
    return got


@contextmanager
def _exit_descriptor(process: subprocess.Popen[bytes]) -> Generator[int | None]:
    """A descriptor that becomes readable when the child exits, None where the system has no such thing (macOS)."""
    try:
        descriptor = os.pidfd_open(process.pid)
    except (AttributeError, OSError):
        # The loop polls the child anyway: without the descriptor it notices the exit up to 50 ms later.
        yield None
        return
    try:
        yield descriptor
    finally:
        os.close(descriptor)
