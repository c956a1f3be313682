"""Places where a fault test may kill the process: between any two writes of the engine.

``KILROY_FAILPOINT=<name>`` or ``<name>:<n>`` in the environment makes the process SIGKILL itself when it comes to that place
(for the n-th time); a ``*`` in the name stands for anything. Names are ``<what>@<when>``: ``final.json@before``,
``final.json@rename`` (the temporary file is complete, the name still old), ``final.json@after``; event lines are
``<event>@before``, ``<event>@torn`` (half of the line is written) and ``<event>@after``; ``commit``, ``visit``, ``attempt``,
``worktree``, ``restore`` and ``restart`` are steps of more than one write. ``KILROY_FAILPOINT_LOG=<file>`` writes down every
place that the process comes to. Without the variables a failpoint costs two comparisons.
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
    """Dies here by SIGKILL if this place is the armed one."""
    if reached(what, when):
        die()


def die() -> None:
    """Ends this process as a crash would: nothing is cleaned up."""
    os.kill(os.getpid(), signal.SIGKILL)


def reached(what: str, when: str) -> bool:
    """Whether this is the armed place; for writers that must do something (half a write) before they die."""
    if _log is not None:
        with _log.open("a", encoding="utf-8") as log:
            log.write(f"{what}@{when}\n")
    if _armed is None or not fnmatchcase(f"{what}@{when}", _armed.name):
        return False
    _armed.remaining -= 1
    return _armed.remaining == 0
