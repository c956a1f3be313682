"""Import paths of the version before: they still work for plug-ins and flow files, and a DeprecationWarning names the new path.

:func:`find_earlier_modules` adds an import finder at the end of ``sys.meta_path``. Python asks this finder only for a module
that no other finder has found. An earlier module looks each name up in the module that defines the name now.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.machinery import ModuleSpec
from types import ModuleType

_MODULES: Mapping[str, str] = {
    "kilroy_engine.graph.rules": "",  # a package that has no names of its own
    "kilroy_engine.graph.rules.subject": "kilroy_engine.graph.checks.subject",
    "kilroy_engine.graph.validation": "kilroy_engine.graph.checks.validation",
    "kilroy_engine.orchestration.flow": "kilroy_engine.orchestration.flows.attractor",
    "kilroy_engine.orchestration.pipeline_flow": "kilroy_engine.orchestration.flows.pipeline_flow",
    "kilroy_engine.orchestration.reconcile_flow": "kilroy_engine.orchestration.flows.reconcile_flow",
    "kilroy_engine.orchestration.settings": "kilroy_engine.execution.preparing.settings",
    "kilroy_engine.rundir.events": "kilroy_engine.events",
}
"""Module of the version before that is gone -> the module that defines its names now."""

_NAMES: Mapping[str, Mapping[str, str]] = {
    "kilroy_engine.graph.dot": {"parse_dot": "kilroy_engine.graph.dot.parse"},
    "kilroy_engine.handlers.base": {"Cancellation": "kilroy_engine.stopping"},
}
"""Module that still exists -> each name that has moved away -> the module that defines the name now."""


def find_earlier_modules() -> None:
    """Makes the earlier modules importable. Called when ``kilroy_engine`` is imported; a second call changes nothing."""
    if not any(isinstance(finder, _EarlierModules) for finder in sys.meta_path):
        sys.meta_path.append(_EarlierModules())


def names_that_left(module: str) -> Callable[[str], object]:
    """The ``__getattr__`` for ``module``, which still exists. Python calls it for the names that have moved away."""

    def named(name: str) -> object:
        home = _NAMES[module].get(name)
        if home is None:
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        return _moved(name, module, home)

    return named


def warn_of_earlier(name: str, today: str, *, stacklevel: int = 2) -> None:
    """Warns that ``name`` belongs to an earlier version. ``today`` is the code to write now; ``stacklevel`` 1 is the caller."""
    warnings.warn(f"{name} is of an earlier version of kilroy-engine; now: {today}", DeprecationWarning, stacklevel + 1)


@dataclass(frozen=True, slots=True)
class Usage:
    """What one agent task consumed of one model. Agents of the version before put this object into their result.

    Agents now tell :class:`~kilroy_engine.events.LlmUsage` while they work. ``cost_usd`` is in US dollars, None where unknown.
    """

    model: str
    input_tokens: int
    output_tokens: int
    cost_usd: float | None = None

    def __post_init__(self) -> None:
        today = "from kilroy_engine import LlmUsage; request.tell(LlmUsage(node_id=request.node.id, ...))"
        warn_of_earlier("Usage", today, stacklevel=3)


class _EarlierModules:
    """Import finder and loader of the modules in ``_MODULES``. Python calls its methods."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname not in _MODULES:
            return None
        return ModuleSpec(fullname, self, is_package=not _MODULES[fullname])  # pyright: ignore[reportArgumentType] - duck-typed

    def create_module(self, spec: ModuleSpec) -> None:
        """Returns None, so that Python makes an ordinary module object."""

    def exec_module(self, module: ModuleType) -> None:
        home = _MODULES[module.__name__]
        if not home:
            return

        def named(name: str) -> object:
            if name.startswith("__"):  # names such as ``__path__`` that the import system asks for: they never moved
                raise AttributeError(f"module {module.__name__!r} has no attribute {name!r}")
            return _moved(name, module.__name__, home)

        vars(module)["__getattr__"] = named


def _moved(name: str, earlier: str, home: str) -> object:
    """The object called ``name`` in the module ``home``. Warns the code that imports the name from the module ``earlier``.

    Raises:
        AttributeError: ``home`` has no such name.
    """
    found: object = getattr(import_module(home), name)
    public = name in import_module("kilroy_engine").__all__
    warn_of_earlier(f"{earlier}.{name}", f"from {'kilroy_engine' if public else home} import {name}", stacklevel=3)
    return found
