"""Runs one command for a stage: own session, own pipes, all of its output on disk, nothing of it left after a stop."""

from __future__ import annotations

import codecs
import errno
import os
import selectors
import shutil
import subprocess
import time
from collections.abc import Generator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import IO

from kilroy_engine.processes.output import OutputSink, discard_output
from kilroy_engine.rundir.files.regular import open_for_writing
from kilroy_engine.rundir.stages.process_groups import end_group, record_process
from kilroy_engine.stopping import Cancellation

_CHUNK_BYTES = 1 << 16
_LINE_LIMIT = 1 << 16  # characters: a longer line reaches the sink in pieces, so that it never has to be held whole
_POLL_S = 0.05
_QUIET_S = 0.5
_DRAIN_S = 3.0
# The command begins when its start is on record. If the engine dies before, the read finds the end and nothing has happened.
_WHEN_RECORDED = ("/bin/sh", "-c", 'read -r _ || exit 125; exec "$@" </dev/null', "sh")


@dataclass(frozen=True, slots=True)
class Command:
    """What to run. ``timeout_s`` limits it, ``grace_s`` lies between the polite and the final signal of a stop.

    ``environment`` is complete: nothing of the engine's own is added. Output goes to ``stdout.log`` and ``stderr.log`` in
    ``stage_dir``.
    """

    argv: tuple[str, ...]
    work_dir: Path
    environment: Mapping[str, str]
    stage_dir: Path
    timeout_s: float
    grace_s: float = 0.5


class Ending(StrEnum):
    """Why a command is over."""

    EXITED = "exited"
    TIMED_OUT = "timed out"
    CANCELED = "canceled"


@dataclass(frozen=True, slots=True)
class CommandEnd:
    """How a command ended. ``exit_code`` is negative for a signal, as in :mod:`subprocess`."""

    ending: Ending
    exit_code: int
    duration_s: float


def run_command(command: Command, *, cancellation: Cancellation, output: OutputSink = discard_output) -> CommandEnd:
    """Runs ``command`` to its end and returns how it ended.

    A stop (timeout, cancellation, or any exception that passes through) ends the whole process group and the descendants
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
            (*_WHEN_RECORDED, *command.argv),
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
        streams = [_Stream(*parts, output) for parts in zip(_STREAMS, pipes, logs, strict=True)]
        try:
            record_process(command.stage_dir, process)
            _let_begin(process)
            ending = _Follower(process, streams).follow(command.timeout_s, cancellation)
            if ending is not Ending.EXITED:
                end_group(process, grace_s=command.grace_s)
        except BaseException:
            # Whatever passes through here, an interrupt included, must not leave the command running unwatched. A second
            # Ctrl-C comes here from the grace of the first.
            end_group(process, grace_s=command.grace_s)
            raise
        if ending is not Ending.EXITED:
            for stream in streams:
                stream.read_rest()
        for stream in streams:
            stream.finish()
        return CommandEnd(ending, process.wait(), time.monotonic() - started)


_STREAMS = ("stdout", "stderr")


def _new_log(path: Path) -> IO[bytes]:
    return os.fdopen(open_for_writing(path, os.O_WRONLY | os.O_TRUNC), "wb", buffering=0)


def _require_program(command: Command) -> None:
    program = command.argv[0]
    if shutil.which(program, path=command.environment.get("PATH")) is None:
        raise FileNotFoundError(errno.ENOENT, "not installed or not on PATH", program)


def _reap(process: subprocess.Popen[bytes]) -> None:
    """Takes the exit code. A command that is still there, because ending it was interrupted once more, gets no more time."""
    if process.poll() is None:
        end_group(process, grace_s=0)
    process.wait()


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

    def __init__(self, name: str, pipe: IO[bytes], log: IO[bytes], output: OutputSink) -> None:
        os.set_blocking(pipe.fileno(), False)
        self.pipe = pipe
        self.open = True
        self._name = name
        self._log = log
        self._output = output
        self._decode = codecs.getincrementaldecoder("utf-8")(errors="replace").decode
        self._rest = ""

    def read(self) -> bool:
        """Takes what is there, one chunk at most. False when there was nothing."""
        try:
            chunk = os.read(self.pipe.fileno(), _CHUNK_BYTES)
        except BlockingIOError:
            return False
        if not chunk:
            self.open = False
            return False
        view = memoryview(chunk)
        while view:
            view = view[self._log.write(view) :]
        self._feed(self._decode(chunk))
        return True

    def read_rest(self) -> None:
        """Takes everything that is in the pipe now, without waiting for its end."""
        while self.open and self.read():
            pass

    def finish(self) -> None:
        """Hands on a last line that has no newline."""
        self._feed(self._decode(b"", True))
        self._emit(self._rest)
        self._rest = ""

    def _feed(self, text: str) -> None:
        *lines, rest = (self._rest + text).split("\n")
        for line in lines:
            self._emit(line)
        while len(rest) > _LINE_LIMIT:
            self._emit(rest[:_LINE_LIMIT])
            rest = rest[_LINE_LIMIT:]
        self._rest = rest

    def _emit(self, line: str) -> None:
        line = line.removesuffix("\r")
        if line:
            self._output(self._name, line)


class _Follower:
    """Reads a child's pipes until it is over, watching the clock and the request to stop."""

    def __init__(self, process: subprocess.Popen[bytes], streams: list[_Stream]) -> None:
        self._process = process
        self._streams = streams

    def follow(self, timeout_s: float, cancellation: Cancellation) -> Ending:
        deadline = time.monotonic() + timeout_s
        with selectors.DefaultSelector() as selector, _exit_descriptor(self._process) as exit_fd:
            for stream in self._streams:
                selector.register(stream.pipe, selectors.EVENT_READ, stream)
            if exit_fd is not None:
                selector.register(exit_fd, selectors.EVENT_READ)
            while self._process.poll() is None:
                if cancellation.requested:
                    return Ending.CANCELED
                remaining_s = deadline - time.monotonic()
                if remaining_s <= 0:
                    return Ending.TIMED_OUT
                _read_ready(selector, min(_POLL_S, remaining_s))
            if exit_fd is not None:
                selector.unregister(exit_fd)
            self._drain(selector)
        return Ending.EXITED

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
