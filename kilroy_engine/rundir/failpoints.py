"""Places where a fault test may kill the process: between any two writes of the engine.

``KILROY_FAILPOINT=<name>`` or ``<name>:<n>`` in the environment makes the process SIGKILL itself when it comes to that place
(for the n-th time). Names are ``<what>@<when>``: ``final.json@before``, ``final.json@rename`` (the temporary file is
complete, the name still old), ``final.json@after``; event lines are ``<event>@before``, ``<event>@torn`` (half of the line is
written) and ``<event>@after``. Without the variable a failpoint costs one comparison.
"""

from __future__ import annotations

import os
import signal


class _Armed:
    def __init__(self, setting: str) -> None:
        self.name, _, count = setting.partition(":")
        self.remaining = int(count or 1)


_armed = _Armed(os.environ["KILROY_FAILPOINT"]) if os.environ.get("KILROY_FAILPOINT") else None


def failpoint(what: str, when: str) -> None:
    """Dies here by SIGKILL if this place is the armed one."""
    if reached(what, when):
        die()


def die() -> None:
    """Ends this process as a crash would: nothing is cleaned up."""
    os.kill(os.getpid(), signal.SIGKILL)


def reached(what: str, when: str) -> bool:
    """Whether this is the armed place; for writers that must do something (half a write) before they die."""
    if _armed is None or _armed.name != f"{what}@{when}":
        return False
    _armed.remaining -= 1
    return _armed.remaining == 0
