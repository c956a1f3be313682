"""Tells a reader that waits for a run whether the run's process is gone and nobody will end the run."""

from __future__ import annotations

import time
from pathlib import Path

from kilroy_engine.rundir.files.layout import RunDirectory
from kilroy_engine.rundir.ownership.ownership import owner_alive

GRACE_S = 15.0
"""How long a run may be without a process before the run counts as abandoned: a hook in another process may be writing the end.
"""


class Abandoned:
    """Calling an object of this class tells whether the run's process has been gone for more than :data:`GRACE_S`.

    Made for ``tail_events(path, follow=True, stop=Abandoned(path))``, which then returns for a run that nobody will end. The
    time from the last event to the making of the object counts.
    """

    def __init__(self, path: Path | str) -> None:
        self._run = RunDirectory(Path(path))
        self._quiet_since = time.monotonic() - _age_s(self._run.progress)

    def __call__(self) -> bool:
        if owner_alive(self._run):
            self._quiet_since = time.monotonic()
        return time.monotonic() - self._quiet_since > GRACE_S


def _age_s(file: Path) -> float:
    """Seconds since the file was last written; 0 where the file does not exist."""
    try:
        return max(0.0, time.time() - file.lstat().st_mtime)
    except OSError:
        return 0.0
