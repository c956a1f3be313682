"""What a test session may not leave behind: processes, and files in the home of whoever runs it.

The session lives in a scratch home. It marks its environment, which everything that it starts inherits; pytest itself adds the
name of the test. A process that was given another environment is known by its folder.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator, MutableMapping
from dataclasses import dataclass
from pathlib import Path

import psutil

MARK = "TESTS_OF_KILROY_ENGINE"
_WORKER = "PYTEST_XDIST_WORKER"
_KEPT = ("KILROY_CORPUS", "KILROY_FAULT_", "KILROY_AGENT_CLIS")
_GRACE_S = 3.0


@dataclass(frozen=True)
class Homes:
    """``scratch`` is the session's own folder. ``watched`` are the real folders, with the files that were there before."""

    scratch: Path
    watched: dict[Path, frozenset[Path]]

    def strays(self) -> list[Path]:
        """Files of the real home that were not there when the session began."""
        return sorted(path for folder, before in self.watched.items() for path in _files(folder) - before)


def enter_scratch_home(environ: MutableMapping[str, str]) -> Homes | None:
    """Gives this process, and with it all that it starts, a home of the session's own, without settings of Kilroy or Prefect.

    A worker of pytest-xdist has a part of its session's home for itself, and watches nothing: None.
    """
    worker = environ.get(_WORKER)
    if worker:
        _move(environ, Path(environ[MARK]) / worker)
        return None
    real = Path(environ.get("HOME") or Path.home())
    state = Path(environ.get("XDG_STATE_HOME") or real / ".local" / "state")
    folders = (Path(environ.get("PREFECT_HOME") or real / ".prefect"), real / ".prefect", state / "kilroy")
    watched = {folder: _files(folder) for folder in dict.fromkeys(folders)}
    scratch = Path(tempfile.mkdtemp(prefix="kilroy-tests-")).resolve()
    environ[MARK] = str(scratch)
    _move(environ, scratch / "main")
    return Homes(scratch, watched)


def _move(environ: MutableMapping[str, str], home: Path) -> None:
    home.mkdir()
    for name in [name for name in environ if name.startswith(("KILROY_", "PREFECT_")) and not name.startswith(_KEPT)]:
        del environ[name]
    environ.update(HOME=str(home), XDG_STATE_HOME=str(home / "state"), PREFECT_HOME=str(home / "prefect"))


def _files(folder: Path) -> frozenset[Path]:
    return frozenset(path for path in folder.rglob("*") if not path.is_dir()) if folder.is_dir() else frozenset()


def processes_left(homes: Homes, folders: tuple[Path, ...]) -> list[psutil.Process]:
    """Processes of the session that are still there some seconds after its end. ``folders`` are those that its tests ran in."""
    deadline = time.monotonic() + _GRACE_S
    while (found := list(_of_session(homes, folders))) and time.monotonic() < deadline:
        time.sleep(0.1)
    return found


def _of_session(homes: Homes, folders: tuple[Path, ...]) -> Iterator[psutil.Process]:
    places = (homes.scratch, *folders)
    children = {child.pid for child in psutil.Process().children(recursive=True)}
    for process in psutil.process_iter():
        try:
            if process.pid == os.getpid() or process.status() == psutil.STATUS_ZOMBIE:
                continue
            marked = process.environ().get(MARK) == str(homes.scratch)
            inside = any(Path(process.cwd()).is_relative_to(place) for place in places)
        except (psutil.Error, OSError):
            continue  # gone meanwhile, or somebody else's
        if process.pid in children or marked or inside:
            yield process


def told(process: psutil.Process) -> str:
    """A process as one line: its command, and the test that started it."""
    try:
        test = process.environ().get("PYTEST_CURRENT_TEST", "").partition(" ")[0]
        return f"{process.pid} {' '.join(process.cmdline())[:200]}" + (f" (from {test})" if test else "")
    except psutil.Error:
        return str(process.pid)
