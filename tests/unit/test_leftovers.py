"""The tests' own guard: a session that leaves something behind fails, whatever its tests say."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

TESTS = Path(__file__).parents[1]
LEAVES_A_PROCESS = """
import subprocess
def test_leaves():
    print("pid", subprocess.Popen(["sleep", "300"], {given}start_new_session=True).pid)
"""
IN_ANOTHER_ENVIRONMENT = 'env={"PATH": "/usr/bin:/bin"}, cwd=tmp_path, '
LEAVES_A_FILE = """
from pathlib import Path
def test_leaves():
    folder = Path({home!r}) / ".prefect"
    folder.mkdir()
    (folder / "profiles.toml").touch()
"""
LEAVES_NOTHING = """
import os
from pathlib import Path
def test_leaves_nothing():
    from prefect.settings import get_current_settings
    Path(os.environ["HOME"], ".prefect").mkdir()
    assert str(get_current_settings().home).startswith(os.environ["HOME"])
"""


def session(tmp_path: Path, test: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A session of its own, as whoever runs ``make unit`` has it, over one file with one test."""
    folder, home = tmp_path / "tests", tmp_path / "home"
    folder.mkdir()
    home.mkdir()
    (folder / "conftest.py").symlink_to(TESTS / "conftest.py")
    (folder / "test_one.py").write_text(test, encoding="utf-8")
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "XDG_", "PREFECT_"))}
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-rP", "-p", "no:cacheprovider", f"--rootdir={folder}", *arguments, str(folder)],
        cwd=folder,
        env=environ | {"HOME": str(home), "PYTHONPATH": str(TESTS), "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.parametrize(
    ("given", "arguments"),
    [("", ("--numprocesses=1",)), (IN_ANOTHER_ENVIRONMENT, ())],
    ids=["marked, under pytest-xdist", "known by its folder"],
)
def test_a_process_that_a_test_leaves_behind_fails_the_session(tmp_path: Path, given: str, arguments: tuple[str, ...]) -> None:
    """Its command and its test are named, and it is ended."""
    source = LEAVES_A_PROCESS.replace("{given}", given).replace("():", "(tmp_path):")
    done = session(tmp_path, source, *arguments)
    (left,) = (line for line in done.stdout.splitlines() if line.startswith("process left behind: "))
    pid, command = left.removeprefix("process left behind: ").split(" ", 1)

    assert "1 passed" in done.stdout
    assert done.returncode == pytest.ExitCode.TESTS_FAILED
    assert command == "sleep 300" + ("" if given else " (from test_one.py::test_leaves)")
    assert not psutil.pid_exists(int(pid)) or psutil.Process(int(pid)).status() == psutil.STATUS_ZOMBIE


def test_a_file_in_the_real_home_fails_the_session(tmp_path: Path) -> None:
    """Prefect's folder and the engine's state: what is there was not there before."""
    done = session(tmp_path, LEAVES_A_FILE.format(home=str(tmp_path / "home")))

    assert done.returncode == pytest.ExitCode.TESTS_FAILED
    assert f"file in the real home: {tmp_path / 'home' / '.prefect' / 'profiles.toml'}" in done.stdout


def test_a_session_lives_in_a_home_of_its_own(tmp_path: Path) -> None:
    """A test that uses the home it is given leaves nothing: the session succeeds, and its home is gone."""
    done = session(tmp_path, LEAVES_NOTHING)

    assert done.returncode == pytest.ExitCode.OK, done.stdout
    assert not list((tmp_path / "home").iterdir())
    assert not list(tmp_path.glob("kilroy-tests-*"))
