"""Changes the engine's own code in a child process that was asked for it.

``KILROY_TEST_RAISE=1``: writing down the first outcome raises. ``KILROY_TEST_HOLD=<file>``: once the walk's conclusion is on
disk, the flow's process waits for the file before it goes on.
"""

import os
import sys
import time
from importlib.abc import MetaPathFinder
from importlib.machinery import PathFinder
from pathlib import Path


def raising(module):
    def outcome_recorded(*_):
        raise ZeroDivisionError("injected")

    module.LaneRecorder.outcome_recorded = outcome_recorded


def holding(module):
    conclude = module.Run.conclude

    def conclude_and_wait(*arguments):
        concluded = conclude(*arguments)
        while not Path(os.environ["KILROY_TEST_HOLD"]).exists():
            time.sleep(0.05)
        return concluded

    module.Run.conclude = conclude_and_wait


class _Change(MetaPathFinder):
    """Changes a module as soon as it has been imported."""

    def __init__(self, name, change):
        self._name = name
        self._change = change

    def find_spec(self, fullname, path=None, target=None):
        if fullname != self._name:
            return None
        sys.meta_path.remove(self)
        spec = PathFinder.find_spec(fullname, path)
        execute = spec.loader.exec_module

        def exec_module(module):
            execute(module)
            self._change(module)

        spec.loader.exec_module = exec_module
        return spec


if os.environ.get("KILROY_TEST_RAISE"):
    sys.meta_path.insert(0, _Change("kilroy_engine.execution.recorder", raising))
if os.environ.get("KILROY_TEST_HOLD"):
    sys.meta_path.insert(0, _Change("kilroy_engine.execution.run", holding))
