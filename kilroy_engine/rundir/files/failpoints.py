"""Failpoints: places between any two writes of the engine where a fault test may kill the process.

With ``KILROY_FAILPOINT=<name>`` or ``<name>:<n>`` in the environment the process kills itself by SIGKILL at that failpoint (or
when it reaches the failpoint for the n-th time). A ``*`` in the name matches any text. A name is ``<what>@<when>``:
``final.json@before``, ``final.json@rename`` (the temporary file is complete, the rename not yet done), ``final.json@after``. An
event line has ``<event>@before``, ``<event>@torn`` (half of the line is written) and ``<event>@after``. A step of more than one
write has a name too, such as ``commit``, ``visit``, ``attempt``, ``worktree``, ``restore``, ``restart`` or ``push``. With
``KILROY_FAILPOINT_LOG=<file>`` every failpoint that the process reaches is written to that file. Without the variables a
failpoint costs two comparisons.
"""

from __future__ import annotations

import os
import signal
from fnmatch import fnmatchcase
from pathlib import Path


class _Armed:
    def __init__(self, setting: str) -> None:
        self.name, _, count = setting.partition(":")
        self.remaining = int(count or 1)


_armed = _Armed(os.environ["KILROY_FAILPOINT"]) if os.environ.get("KILROY_FAILPOINT") else None


_log = Path(os.environ["KILROY_FAILPOINT_LOG"]) if os.environ.get("KILROY_FAILPOINT_LOG") else None


def failpoint(what: str, when: str) -> None:
    """Kills this process by SIGKILL if the failpoint ``<what>@<when>`` is the one that ``KILROY_FAILPOINT`` names."""
    if reached(what, when):
        die()


def die() -> None:
    """Ends this process as a crash would: no cleanup runs."""
    os.kill(os.getpid(), signal.SIGKILL)


def reached(what: str, when: str) -> bool:
    """Whether ``KILROY_FAILPOINT`` names this failpoint. For writers that write half a line before they call :func:`die`."""
    if _log is not None:
        with _log.open("a", encoding="utf-8") as log:
            log.write(f"{what}@{when}\n")
    if _armed is None or not fnmatchcase(f"{what}@{when}", _armed.name):
        return False
    _armed.remaining -= 1
    return _armed.remaining == 0
