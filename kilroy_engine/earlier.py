"""What plug-ins and flow files of the version before import: earlier paths work, and a DeprecationWarning names the new one.

:func:`find_earlier_modules` puts a finder behind all others of the process. Python asks it only for a module that nobody else
has, so nobody else pays for it. An earlier module holds no copies: its names are those of the module that has them now.
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
    "kilroy_engine.graph.rules": "",  # a folder only
    "kilroy_engine.graph.rules.subject": "kilroy_engine.graph.checks.subject",
    "kilroy_engine.graph.validation": "kilroy_engine.graph.checks.validation",
    "kilroy_engine.orchestration.flow": "kilroy_engine.orchestration.flows.attractor",
    "kilroy_engine.orchestration.pipeline_flow": "kilroy_engine.orchestration.flows.pipeline_flow",
    "kilroy_engine.orchestration.reconcile_flow": "kilroy_engine.orchestration.flows.reconcile_flow",
    "kilroy_engine.orchestration.settings": "kilroy_engine.execution.preparing.settings",
    "kilroy_engine.rundir.events": "kilroy_engine.events",
}
"""Modules of the version before that are no more, to the module that has their names now."""

_NAMES: Mapping[str, Mapping[str, str]] = {
    "kilroy_engine.graph.dot": {"parse_dot": "kilroy_engine.graph.dot.parse"},
    "kilroy_engine.handlers.base": {"Cancellation": "kilroy_engine.stopping"},
}
"""Modules that are still there, to the names that have left them and the module that has each now."""


def find_earlier_modules() -> None:
    """Makes the earlier modules importable. Called by the package itself, when it is imported."""
    if not any(isinstance(finder, _EarlierModules) for finder in sys.meta_path):
        sys.meta_path.append(_EarlierModules())


def names_that_left(module: str) -> Callable[[str], object]:
    """The ``__getattr__`` of a module that is still there, for the names that have left it."""

    def named(name: str) -> object:
        home = _NAMES[module].get(name)
        if home is None:
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        return _moved(name, module, home)

    return named


def warn_of_earlier(name: str, today: str, *, stacklevel: int = 2) -> None:
    """Says that ``name`` is the version before's, and what is written ``today``. ``stacklevel`` counts the caller as 1."""
    warnings.warn(f"{name} is of an earlier version of kilroy-engine; now: {today}", DeprecationWarning, stacklevel + 1)


@dataclass(frozen=True, slots=True)
class Usage:
    """What a task consumed of one model, as agents of the version before put it into their result.

    Agents tell :class:`~kilroy_engine.events.LlmUsage` instead, while they work. ``cost_usd`` is None where nobody says.
    """

    model: str
    input_tokens: int
    output_tokens: int
    cost_usd: float | None = None

    def __post_init__(self) -> None:
        today = "from kilroy_engine import LlmUsage; request.tell(LlmUsage(node_id=request.node.id, ...))"
        warn_of_earlier("Usage", today, stacklevel=3)


class _EarlierModules:
    """Finder and loader of the modules in ``_MODULES``."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname not in _MODULES:
            return None
        return ModuleSpec(fullname, self, is_package=not _MODULES[fullname])  # pyright: ignore[reportArgumentType] - duck-typed

    def create_module(self, spec: ModuleSpec) -> None:
        """None: Python makes the module itself."""

    def exec_module(self, module: ModuleType) -> None:
        home = _MODULES[module.__name__]
        if not home:
            return

        def named(name: str) -> object:
            if name.startswith("__"):  # questions of the import system: a module has them or has not
                raise AttributeError(f"module {module.__name__!r} has no attribute {name!r}")
            return _moved(name, module.__name__, home)

        vars(module)["__getattr__"] = named


def _moved(name: str, earlier: str, home: str) -> object:
    """The object called ``name`` in ``home``, with a warning to whoever imports it from ``earlier``.

    Raises:
        AttributeError: There is none.
    """
    found: object = getattr(import_module(home), name)
    public = name in import_module("kilroy_engine").__all__
    warn_of_earlier(f"{earlier}.{name}", f"from {'kilroy_engine' if public else home} import {name}", stacklevel=3)
    return found
