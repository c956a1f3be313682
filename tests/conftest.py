"""For all tests: a scratch home for the whole session, which fails when anything is left behind.

Properties are judged by their examples, not by how fast a busy machine draws them. A failure that does not come again leaves
its example in the report.
"""

import os
import shutil
from collections.abc import Generator

import leftovers
import pytest

HOMES = leftovers.enter_scratch_home(os.environ)  # before anything of Kilroy or Prefect is imported, which look there

from hypothesis import HealthCheck, settings  # noqa: E402

settings.register_profile("project", deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True)
settings.load_profile("project")

# The tests start some hundred processes: each uses what an earlier one has compiled.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """``--numprocesses logical``: two for each processor, because the tests wait for processes nearly half of their time."""
    return 2 * (os.cpu_count() or 1)


@pytest.hookimpl(wrapper=True)
def pytest_sessionfinish(session: pytest.Session) -> Generator[None]:
    """The session fails when a process of it is left, or a file in the real home. Such a process is ended."""
    yield  # workers of pytest-xdist, and servers of the session's fixtures, are gone after this
    if HOMES is None:
        return
    base = getattr(getattr(session.config, "_tmp_path_factory", None), "_basetemp", None)
    left = leftovers.processes_left(HOMES, (base,) if base else ())
    found = [f"process left behind: {leftovers.told(process)}" for process in left]
    found += [f"file in the real home: {path}" for path in HOMES.strays()]
    for process in left:
        process.kill()
    shutil.rmtree(HOMES.scratch, ignore_errors=True)
    if found:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
        reporter = session.config.pluginmanager.get_plugin("terminalreporter")
        if reporter is not None:
            reporter.write_line("")
            for line in found:
                reporter.write_line(line, red=True)
