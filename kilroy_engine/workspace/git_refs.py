"""Moves branches through one long-lived git process: ``git update-ref --stdin`` takes one transaction after the other.

git writes the ref in the repository's format (loose, packed, reftable), with git's locks and the reflog. git refuses to move a
ref that is not at the expected commit.
"""

from __future__ import annotations

import os
import re
import selectors
import subprocess
import time
import weakref
from pathlib import Path

from kilroy_engine.errors import WorkspaceError
from kilroy_engine.workspace.git_command import LOCK_PATIENCE_S, git_command, git_environment, kill_git, refusal, start_git

_UNFIT_FOR_REFS = re.compile(r"[^A-Za-z0-9._-]|\.\.+|\.lock(?=$)|^\.|\.$")
_ANSWER_LIMIT_S = 60.0
_DONE = b"commit: ok\n"
_PATIENCE_MS = round(LOCK_PATIENCE_S * 1000)
_PATIENT = ("-c", f"core.filesRefLockTimeout={_PATIENCE_MS}", "-c", f"core.packedRefsTimeout={_PATIENCE_MS}")


def ref_part(text: str) -> str:
    """``text`` as one part of a git branch's name."""
    return _UNFIT_FOR_REFS.sub("-", text) or "-"


class RefWriter:
    """Writes refs of the repository that the worktree ``folder`` belongs to. git is started by the first move.

    Not for use by two threads at once.
    """

    def __init__(self, folder: Path, reason: str) -> None:
        self._folder = folder
        self._command = git_command(folder, *_PATIENT, "update-ref", "-m", reason, "--stdin")
        self._process: subprocess.Popen[bytes] | None = None
        self._finalizer: weakref.finalize[..., RefWriter] | None = None

    def move(self, ref: str, new: str, old: str) -> None:
        """Moves ``ref`` from commit ``old`` to commit ``new``. An ``old`` of zeros says that the ref must not exist yet.

        Raises:
            WorkspaceError: The ref is not at ``old``, or git cannot write the ref, even after waiting for another git's lock.
        """
        if self._process is not None and self._process.poll() is not None:
            self.close()  # somebody has ended the git process
        transaction = f"start\nupdate {ref} {new} {old}\nprepare\ncommit\n".encode()
        if self._process is not None and self._moved_by(self._process, transaction):
            return
        self._asked(self._start(), transaction)

    def _moved_by(self, process: subprocess.Popen[bytes], transaction: bytes) -> bool:
        """Asks the git process of an earlier move; whether that process has made the move.

        Its refusal is not the last word. git recognizes a new packed-refs file by size, inode and the second of its time, so an
        older process may know an outdated file.
        """
        try:
            self._asked(process, transaction)
        except WorkspaceError:
            return False
        return True

    def _asked(self, process: subprocess.Popen[bytes], transaction: bytes) -> None:
        try:
            self._ask(process, transaction)
        except BaseException:
            # The process may be in the middle of a transaction.
            self.close()
            raise

    def close(self) -> None:
        """Ends the git process."""
        if self._finalizer is not None:
            self._finalizer()
        self._process = None

    def _start(self) -> subprocess.Popen[bytes]:
        process = start_git(self._command, environment=git_environment(self._folder))
        self._process = process
        self._finalizer = weakref.finalize(self, _end, process)
        return process

    def _ask(self, process: subprocess.Popen[bytes], transaction: bytes) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(transaction)
            process.stdin.flush()
            said = self._answer(process.stdout.fileno())
        except BrokenPipeError:
            said = b""
        if not said.endswith(_DONE):
            self._process = None
            _, stderr = process.communicate()
            raise refusal(self._command, stderr, process.returncode)

    def _answer(self, stdout: int) -> bytes:
        """git's output up to the end of the transaction; less if git has ended."""
        said, give_up = b"", time.monotonic() + _ANSWER_LIMIT_S
        with selectors.DefaultSelector() as selector:
            selector.register(stdout, selectors.EVENT_READ)
            while not said.endswith(_DONE):
                if not selector.select(max(0.0, give_up - time.monotonic())):
                    raise WorkspaceError(f"git update-ref did not answer within {_ANSWER_LIMIT_S:g} s")
                part = os.read(stdout, 4096)
                if not part:
                    break
                said += part
        return said


def _end(process: subprocess.Popen[bytes]) -> None:
    """Closes git's input, which ends git. A git that does not end within a second is killed."""
    if process.poll() is not None and process.stdin is not None and process.stdin.closed:
        return
    try:
        process.communicate(timeout=1.0)
    except subprocess.TimeoutExpired:
        kill_git(process)
    except (OSError, ValueError):
        process.wait()
