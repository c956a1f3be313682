"""For readers that wait: whether a run has lost its process and nobody will end it."""

from __future__ import annotations

import time
from pathlib import Path

from kilroy_engine.rundir.files.layout import RunDirectory
from kilroy_engine.rundir.ownership.ownership import owner_alive

GRACE_S = 15.0
"""How long a run may be without a process before it counts as abandoned: a hook in another process may be writing its end."""


class Abandoned:
    """Called again and again, says whether the run's process has been gone, and its files silent, for too long.

    Made for ``tail_events(path, follow=True, stop=Abandoned(path))``, which then ends for a run that nobody will end.
    """

    def __init__(self, path: Path | str) -> None:
        self._run = RunDirectory(Path(path))
        self._quiet_since = time.monotonic() - _age_s(self._run.progress)

    def __call__(self) -> bool:
        if owner_alive(self._run):
            self._quiet_since = time.monotonic()
        return time.monotonic() - self._quiet_since > GRACE_S


def _age_s(file: Path) -> float:
    """Seconds since the file was written last; 0 where there is none yet."""
    try:
        return max(0.0, time.time() - file.lstat().st_mtime)
    except OSError:
        return 0.0
