"""Locks between processes."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from kilroy_engine.locks import FileLock, is_locked, lock, locked, try_lock

_HOLDER = "import fcntl, sys; f = open(sys.argv[1]); fcntl.flock(f, fcntl.LOCK_EX); print('held', flush=True); sys.stdin.read()"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """An empty file to lock."""
    path = tmp_path / "lock"
    path.touch()
    return path


@contextmanager
def opened(path: Path) -> Iterator[int]:
    """A descriptor of its own, as another process has one."""
    descriptor = os.open(path, os.O_RDWR)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def holder(path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Another process that holds the lock."""
    process = subprocess.Popen([sys.executable, "-c", _HOLDER, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        try:
            yield process
        finally:
            process.kill()


def test_a_lock_ends_with_the_process_that_holds_it(file: Path) -> None:
    """A killed process leaves nothing to clear away."""
    with opened(file) as descriptor, holder(file) as process:
        assert is_locked(descriptor)
        assert not try_lock(descriptor)
        process.kill()
        process.wait()
        assert try_lock(descriptor)


def test_looking_takes_nothing(file: Path) -> None:
    """Two may look at once, and the lock is free for the next once they have closed."""
    with opened(file) as first, opened(file) as second:
        assert not is_locked(first)
        assert not is_locked(second)
    with opened(file) as third:
        assert try_lock(third)


def test_a_lock_is_waited_for_up_to_a_limit(file: Path) -> None:
    """Whoever waits gets it as soon as it is given back, and is told when it is not."""
    with opened(file) as waits, opened(file) as holds:
        lock(holds)
        assert not try_lock(waits, wait_s=0.1)
        giving_back = threading.Timer(0.1, fcntl.flock, (holds, fcntl.LOCK_UN))
        giving_back.start()
        assert try_lock(waits, wait_s=30.0)
        giving_back.join()


def test_whoever_inherits_the_descriptor_keeps_the_lock(file: Path) -> None:
    """The end of the block takes it from nobody: a server goes on with the lock of the process that has started it."""
    with opened(file) as looks:
        descriptor = os.open(file, os.O_RDWR)
        with locked(descriptor) as mine:
            assert mine
            heir = subprocess.Popen(["cat"], stdin=subprocess.PIPE, pass_fds=(descriptor,))
        with heir:
            assert is_locked(looks)
            heir.kill()
        assert not is_locked(looks)


def test_a_thread_may_take_its_lock_again_and_others_wait_until_it_has_given_all_back(file: Path) -> None:
    """An append inside of several steps that nobody may interrupt."""
    mine = FileLock(lambda: os.open(file, os.O_RDWR))
    with opened(file) as other:
        with mine.held():
            with mine.held():
                assert not try_lock(other)
            assert not try_lock(other)
        assert try_lock(other)
    mine.close()
    with mine.held(), opened(file) as other:
        assert is_locked(other)
    mine.close()
