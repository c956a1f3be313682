"""Makes the engine's own code raise in a child process that was asked for it: ``KILROY_TEST_RAISE=1``."""

import os
import sys
from importlib.abc import MetaPathFinder
from importlib.machinery import PathFinder


class _Break(MetaPathFinder):
    """Replaces one method as soon as its module has been imported."""

    def find_spec(self, fullname, path=None, target=None):
        if fullname != "kilroy_engine.orchestration.recorder":
            return None
        sys.meta_path.remove(self)
        spec = PathFinder.find_spec(fullname, path)
        execute = spec.loader.exec_module

        def exec_module(module):
            execute(module)

            def outcome_recorded(*_):
                raise ZeroDivisionError("injected")

            module.LaneRecorder.outcome_recorded = outcome_recorded

        spec.loader.exec_module = exec_module
        return spec


if os.environ.get("KILROY_TEST_RAISE"):
    sys.meta_path.insert(0, _Break())
